// malloc's family against a model of what it promises: any sequence of calls, from threads that
// hand blocks to each other. Run by itself it tests the C library, under `pagetrap run --guard` us.
//
//   malloc_model SEED STEPS THREADS
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <vector>

namespace {

std::uint64_t seed = 1;
std::size_t steps = 10'000;

[[gnu::format(printf, 2, 3)]] void require(bool holds, const char* what, ...) {
  if (holds) return;
  std::array<char, 300> line;
  va_list words;
  va_start(words, what);
  const int length = std::vsnprintf(line.data(), line.size() - 1, what, words);
  va_end(words);
  line[static_cast<std::size_t>(length)] = '\n';
  static_cast<void>(!::write(2, line.data(), static_cast<std::size_t>(length) + 1));
  std::_Exit(1);
}

enum class Freed : unsigned char { by_free, by_delete, by_delete_array, by_aligned_delete };

struct Block {
  unsigned char* at = nullptr;
  std::size_t size = 0;
  std::size_t alignment = 1;
  unsigned char pattern = 0;
  Freed freed = Freed::by_free;
};

void fill(const Block& block) {
  for (std::size_t i = 0; i < block.size; ++i)
    block.at[i] = static_cast<unsigned char>(block.pattern + i);
}
void check(const Block& block, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    require(block.at[i] == static_cast<unsigned char>(block.pattern + i),
            "byte %zu of %zu has changed (seed %llu)", i, block.size,
            static_cast<unsigned long long>(seed));
}

class Caller {
 public:
  explicit Caller(std::uint64_t number, std::array<std::atomic<Block*>, 32>& exchange)
      : random_(seed * 1000 + number), exchange_(exchange) {}

  void run() {
    for (std::size_t step = 0; step < steps; ++step) {
      const std::size_t which = any(100);
      if (which < 40) {
        make();
      } else if (which < 60) {
        resize();
      } else if (which < 90) {
        drop_one();
      } else if (which < 95) {
        hand_over();
      } else {
        refuse();
      }
      while (blocks_.size() > 400) drop_one();
    }
    while (!blocks_.empty()) drop_one();
  }

 private:
  std::size_t any(std::size_t below) { return random_() % below; }

  std::size_t any_size() {
    switch (any(20)) {
      case 0:
        return 0;
      case 1:
        return 4080 + any(40);
      case 2:
        return any(70'000);
      case 3:
        return any(30) == 0 ? any(5'000'000) : 1;
      case 4:
      case 5:
        return any(2100);
      default:
        return any(200);
    }
  }

  void keep(Block block, bool zeroed = false) {
    const auto address = reinterpret_cast<std::uintptr_t>(block.at);
    require(block.at != nullptr, "no memory for %zu bytes", block.size);
    require(address % block.alignment == 0, "%zu bytes not at a multiple of %zu", block.size,
            block.alignment);
    if (block.freed == Freed::by_free)
      require(malloc_usable_size(block.at) >= block.size, "usable size of %zu", block.size);
    for (std::size_t i = 0; zeroed && i < block.size; ++i)
      require(block.at[i] == 0, "calloc's byte %zu of %zu", i, block.size);
    block.pattern = static_cast<unsigned char>(random_());
    fill(block);
    blocks_.push_back(block);
  }

  void make() {
    const std::size_t size = any_size();
    const std::size_t power = std::size_t{1} << any(15);
    const auto bytes = [](void* block) { return static_cast<unsigned char*>(block); };
    switch (any(12)) {
      case 0: {
        const std::size_t count = 1 + any(8);
        return keep({.at = bytes(calloc(count, size)), .size = count * size}, true);
      }
      case 1: {
        void* block = nullptr;
        const std::size_t alignment = power < sizeof(void*) ? sizeof(void*) : power;
        errno = 77;
        require(posix_memalign(&block, alignment, size) == 0, "posix_memalign");
        require(errno == 77, "posix_memalign changed errno");
        return keep({.at = bytes(block), .size = size, .alignment = alignment});
      }
      case 2:
        return keep({.at = bytes(aligned_alloc(power, size)), .size = size, .alignment = power});
      case 3:
        return keep({.at = bytes(memalign(power, size)), .size = size, .alignment = power});
      case 4:
        return keep({.at = bytes(any(2) == 0 ? valloc(size) : pvalloc(size)),
                     .size = size,
                     .alignment = 4096});
      case 5:
        return keep({.at = bytes(::operator new(size)), .size = size, .freed = Freed::by_delete});
      case 6:
        return keep(
            {.at = bytes(::operator new[](size)), .size = size, .freed = Freed::by_delete_array});
      case 7: {
        const std::size_t alignment = power < 32 ? 32 : power;
        return keep({.at = bytes(::operator new (size, std::align_val_t{alignment})),
                     .size = size,
                     .alignment = alignment,
                     .freed = Freed::by_aligned_delete});
      }
      case 8: {
        const std::size_t length = size % 3000;
        std::vector<char> text(length + 1, 'x');
        text[length] = '\0';
        char* const copy = strdup(text.data());
        require(copy != nullptr && std::strcmp(copy, text.data()) == 0, "strdup");
        return keep({.at = bytes(copy), .size = length + 1});
      }
      case 9:
        return keep({.at = bytes(reallocarray(nullptr, size, 1)), .size = size});
      default:
        return keep({.at = bytes(malloc(size)), .size = size});
    }
  }

  Block take_one() {
    const std::size_t which = any(blocks_.size());
    const Block taken = blocks_[which];
    blocks_[which] = blocks_.back();
    blocks_.pop_back();
    return taken;
  }

  void resize() {
    if (blocks_.empty()) return;
    Block block = take_one();
    if (block.freed != Freed::by_free) {
      blocks_.push_back(block);
      return;
    }
    const std::size_t size = any_size() + 1;
    auto* const moved = static_cast<unsigned char*>(realloc(block.at, size));
    require(moved != nullptr, "realloc of %zu to %zu", block.size, size);
    block.at = moved;
    check(block, block.size < size ? block.size : size);
    block.size = size;
    block.alignment = 1;
    keep(block);
  }

  void drop_one() {
    if (blocks_.empty()) return;
    const Block block = take_one();
    check(block, block.size);
    errno = 78;
    switch (block.freed) {
      case Freed::by_free:
        free(block.at);
        break;
      case Freed::by_delete:
        ::operator delete(block.at);
        break;
      case Freed::by_delete_array:
        ::operator delete[](block.at);
        break;
      case Freed::by_aligned_delete:
        ::operator delete (block.at, std::align_val_t{block.alignment});
        break;
    }
    require(errno == 78, "free() changed errno to %d", errno);
  }

  // To whichever thread comes next, and from whichever came before.
  void hand_over() {
    if (blocks_.empty()) return;
    auto* const mine = new Block(take_one());
    Block* const other = exchange_[any(exchange_.size())].exchange(mine);
    if (other == nullptr) return;
    blocks_.push_back(*other);
    delete other;
  }

  // What cannot be is refused as the C library refuses it.
  void refuse() {
    volatile std::size_t huge = SIZE_MAX / 2 + 1;
    void* block = nullptr;
    errno = 0;
    switch (any(7)) {
      case 0:
        require(malloc(huge) == nullptr && errno == ENOMEM, "malloc of half of all");
        break;
      case 1:
        require(calloc(huge, 3) == nullptr && errno == ENOMEM, "calloc that overflows");
        break;
      case 2:
        require(reallocarray(nullptr, huge, 3) == nullptr && errno == ENOMEM,
                "reallocarray that overflows");
        break;
      case 3:
        require(posix_memalign(&block, 24, 10) == EINVAL, "posix_memalign to 24");
        break;
      case 4:
        require(posix_memalign(&block, 64, huge) == ENOMEM, "posix_memalign of half of all");
        break;
      case 5:
        require(::operator new(huge, std::nothrow) == nullptr, "operator new of half of all");
        break;
      default:
        free(nullptr);
        ::operator delete(nullptr);
        require(malloc_usable_size(nullptr) == 0, "usable size of nothing");
        static_cast<void>(malloc_trim(0));  // 1 where it gave something back
        if (!blocks_.empty()) {
          // A block that cannot grow is as it was.
          const Block& last = blocks_.back();
          if (last.freed != Freed::by_free) break;
          require(realloc(last.at, huge) == nullptr && errno == ENOMEM, "realloc to half of all");
          check(last, last.size);
        }
    }
  }

  std::mt19937_64 random_;
  std::array<std::atomic<Block*>, 32>& exchange_;
  std::vector<Block> blocks_;
};

std::array<std::atomic<Block*>, 32> exchange{};

void* run(void* number) {
  Caller(reinterpret_cast<std::uintptr_t>(number), exchange).run();
  return nullptr;
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) return 2;
  seed = std::strtoull(words[1], nullptr, 10);
  steps = std::strtoull(words[2], nullptr, 10);
  std::vector<pthread_t> threads(std::strtoull(words[3], nullptr, 10));
  for (std::size_t i = 0; i < threads.size(); ++i)
    require(pthread_create(&threads[i], nullptr, run, reinterpret_cast<void*>(i + 1)) == 0,
            "pthread_create");
  run(nullptr);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  for (auto& left : exchange) {
    Block* const block = left.exchange(nullptr);
    if (block == nullptr) continue;
    check(*block, block->size);
    if (block->freed == Freed::by_free) free(block->at);
    delete block;
  }
  std::puts("as promised");
  return 0;
}

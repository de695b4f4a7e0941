#include <pagetrap/compress/compressed_memory.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// Multiples of 16 bytes up to 128, then four to each doubling.
constexpr unsigned kSmallClasses = 8;
constexpr unsigned kClasses = kSmallClasses + 4 * 40;

unsigned class_of(std::size_t size) {
  if (size <= 128) return size == 0 ? 0 : static_cast<unsigned>((size + 15) / 16 - 1);
  const auto doubling = static_cast<unsigned>(std::bit_width(size - 1)) - 1;
  const std::size_t step = std::size_t{1} << (doubling - 2);
  const std::size_t quarter = (size - (std::size_t{1} << doubling) + step - 1) / step;
  return kSmallClasses + (doubling - 7) * 4 + static_cast<unsigned>(quarter) - 1;
}

std::size_t size_of(unsigned index) {
  if (index < kSmallClasses) return (std::size_t{index} + 1) * 16;
  const unsigned doubling = (index - kSmallClasses) / 4 + 7;
  return (std::size_t{1} << doubling) +
         ((index - kSmallClasses) % 4 + 1) * (std::size_t{1} << (doubling - 2));
}

}  // namespace

class CompressedResource final : public std::pmr::memory_resource {
 public:
  explicit CompressedResource(PageRange range)
      : begin_(range.base), next_(range.base), end_(range.end()) {}

  [[nodiscard]] std::byte* next() const noexcept {
    const std::lock_guard lock(mutex_);
    return next_;
  }

 private:
  // Blocks of the ordinary classes are aligned to 16. Others have lists of their own, by powers of
  // two, and are aligned to their length, or to a page.
  static unsigned list_of(std::size_t size, std::size_t alignment) {
    if (alignment <= 16) return class_of(size);
    return kClasses + static_cast<unsigned>(std::bit_width(std::max(size, alignment) - 1));
  }
  static std::size_t length_of(unsigned list) {
    return list < kClasses ? size_of(list) : std::size_t{1} << (list - kClasses);
  }

  void* do_allocate(std::size_t size, std::size_t alignment) override {
    if (alignment > page_size() || size > kLargest) throw std::bad_alloc();
    const unsigned list = list_of(size, alignment);
    const std::lock_guard lock(mutex_);
    if (!free_[list].empty()) {
      std::byte* const block = free_[list].back();
      free_[list].pop_back();
      return block;
    }
    const std::size_t length = length_of(list);
    const std::size_t aligned_to = list < kClasses ? 16 : std::min(length, page_size());
    const std::size_t head = (aligned_to - offset() % aligned_to) % aligned_to;
    const auto left = static_cast<std::size_t>(end_ - next_);
    if (left < head || left - head < length) throw std::bad_alloc();
    // Room in the list for its return, which must not throw.
    if (free_[list].capacity() <= made_[list])
      free_[list].reserve(std::max<std::size_t>(2 * made_[list], 16));
    ++made_[list];
    std::byte* const block = next_ + head;
    next_ = block + length;
    return block;
  }

  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
    const unsigned list = list_of(size, alignment);
    const std::lock_guard lock(mutex_);
    free_[list].push_back(static_cast<std::byte*>(block));
  }

  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  [[nodiscard]] std::size_t offset() const { return static_cast<std::size_t>(next_ - begin_); }

  static constexpr std::size_t kLargest = std::size_t{1} << 46;
  static constexpr unsigned kLists = kClasses + 64;

  mutable std::mutex mutex_;
  std::byte* begin_;
  std::byte* next_;
  std::byte* end_;
  std::array<std::vector<std::byte*>, kLists> free_;
  std::array<std::size_t, kLists> made_{};
};

Result<std::unique_ptr<CompressedMemory>> CompressedMemory::create(
    pager::Pager& pager, std::size_t size_bytes, CompressedMemoryOptions options) {
  auto memory = std::unique_ptr<CompressedMemory>(new CompressedMemory);
  auto source = CompressedSource::create(size_bytes, std::move(options.source));
  if (!source) return source.error();
  memory->source_ = std::move(*source);
  // A limit in any case, so that park() may have one.
  if (options.region.limit_bytes == 0) options.region.limit_bytes = bytes(pages_for(size_bytes));
  memory->limit_bytes_ = options.region.limit_bytes;
  auto region = pager::Region::create(pager, size_bytes, *memory->source_, options.region);
  if (!region) return region.error();
  memory->region_ = std::move(*region);
  memory->resource_ = std::make_unique<CompressedResource>(memory->region_.range());
  return memory;
}

CompressedMemory::~CompressedMemory() = default;

std::pmr::memory_resource* CompressedMemory::resource() noexcept { return resource_.get(); }

std::size_t CompressedMemory::used_bytes() const noexcept {
  return static_cast<std::size_t>(resource_->next() - region_.data());
}

Result<Done> CompressedMemory::park(std::size_t resident_bytes) {
  if (resident_bytes != 0) {
    if (auto done = region_.set_limit(resident_bytes); !done) return done;
  } else {
    if (auto done = region_.evict_all(); !done) return done;
  }
  return source_->chill(0, pages_for(used_bytes()).count());
}

Result<Done> CompressedMemory::wake() {
  if (auto done = region_.set_limit(limit_bytes_); !done) return done;
  return region_.will_need({region_.data(), pages_for(used_bytes())}, false);
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

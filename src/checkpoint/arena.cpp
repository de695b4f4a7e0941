#include "checkpoint/arena.hpp"

#include <algorithm>
#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::size_t kRefill = std::size_t{16} << 10;  // bytes carved at once for small blocks
constexpr std::size_t kMaxAlignment = 4096;

// Lives in the arena, so that its address is the same in every process; made anew after a restore,
// since its virtual function table is not.
class Resource final : public std::pmr::memory_resource {
 public:
  explicit Resource(ArenaState& state) noexcept : state_(&state) {}

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    return state_->allocate(size, alignment);
  }
  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
    state_->deallocate(block, size, alignment);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
  ArenaState* state_;
};
static_assert(sizeof(Resource) <= sizeof(ArenaHeader::resource));

// Blocks of a power of two bytes lie at multiples of it, up to a page; so more alignment is a
// bigger class.
unsigned class_for(std::size_t size, std::size_t alignment) noexcept {
  return size_class(alignment <= 16 ? size : std::bit_ceil(std::max(size, alignment)));
}

}  // namespace

void ArenaState::format() noexcept {
  ArenaHeader& made = *new (territory.region().data()) ArenaHeader{};
  made.magic = ArenaHeader::kMagic;
  made.used = sizeof(ArenaHeader);
  adopt();
}

void ArenaState::adopt() noexcept { new (header().resource.data()) Resource(*this); }

std::byte* ArenaState::carve(std::size_t length, std::size_t alignment) {
  const std::lock_guard guard(carving_);
  const std::size_t begin = (used() + alignment - 1) & ~(alignment - 1);
  const std::size_t capacity = territory.region().size_bytes();
  if (begin > capacity || length > capacity - begin) throw std::bad_alloc();
  std::atomic_ref<std::uint64_t>(header().used).store(begin + length, std::memory_order_release);
  return territory.region().data() + begin;
}

void* ArenaState::allocate(std::size_t size, std::size_t alignment) {
  if (alignment > kMaxAlignment || size > territory.region().size_bytes()) throw std::bad_alloc();
  const unsigned index = class_for(size, alignment);
  const std::size_t length = class_size(index);
  const std::lock_guard guard(locks_[index]);
  ArenaHeader::Class& blocks = header().classes[index];
  if (FreeBlock* const block = blocks.free) {
    blocks.free = block->next;
    return block;
  }
  if (blocks.unused == blocks.unused_end) {
    const std::size_t batch = std::max(length, kRefill / length * length);
    blocks.unused =
        carve(batch, std::has_single_bit(length) ? std::min(length, kMaxAlignment) : 16);
    blocks.unused_end = blocks.unused + batch;
  }
  std::byte* const block = blocks.unused;
  blocks.unused += length;
  return block;
}

void ArenaState::deallocate(void* block, std::size_t size, std::size_t alignment) noexcept {
  const unsigned index = class_for(size, alignment);
  const std::lock_guard guard(locks_[index]);
  ArenaHeader::Class& blocks = header().classes[index];
  blocks.free = new (block) FreeBlock{blocks.free};
}

void ArenaState::lock_all() noexcept {
  for (std::mutex& lock : locks_) lock.lock();
  carving_.lock();
}

void ArenaState::unlock_all() noexcept {
  carving_.unlock();
  for (std::mutex& lock : locks_) lock.unlock();
}

Arena::~Arena() { delete state_; }

PageRange Arena::range() const noexcept { return state_->territory.region().range(); }

std::size_t Arena::used_bytes() const noexcept { return state_->used(); }

std::pmr::memory_resource* Arena::resource() const noexcept {
  return std::launder(
      reinterpret_cast<std::pmr::memory_resource*>(state_->header().resource.data()));
}

void Arena::set_root(void* object) noexcept {
  std::atomic_ref<void*>(state_->header().root).store(object, std::memory_order_release);
}

void* Arena::root_pointer() const noexcept {
  return std::atomic_ref<void*>(state_->header().root).load(std::memory_order_acquire);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

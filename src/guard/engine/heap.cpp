#include <pagetrap/guard/heap.hpp>

#include <sys/mman.h>

#include <cerrno>
#include <new>
#include <utility>

#include "guard/engine/engine.hpp"
#include "sys/memory_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

/// In the page of its engine, behind it.
class Resource final : public std::pmr::memory_resource {
 public:
  explicit Resource(Engine& engine) noexcept : engine_(engine) {}

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    void* const block =
        engine_.allocate(size, alignment, Family::resource, false, __builtin_frame_address(0));
    if (block == nullptr) throw std::bad_alloc();
    return block;
  }
  void do_deallocate(void* block, std::size_t size, std::size_t /*alignment*/) override {
    engine_.release(block, Family::resource, size, __builtin_frame_address(0));
  }
  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }
  Engine& engine_;
};

constexpr std::size_t kWhole = Heap::kEngineBytes + 64;

Resource* resource_of(Engine* engine) noexcept {
  return std::launder(
      reinterpret_cast<Resource*>(reinterpret_cast<std::byte*>(engine) + Heap::kEngineBytes));
}

}  // namespace

Result<Engine*> Heap::create_at(void* place, const HeapOptions& options) noexcept {
  return Engine::create_at(place, options);
}

Result<Heap> Heap::create(const HeapOptions& options) {
  void* const place =
      sys::plain_mmap(nullptr, kWhole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return Error{"mmap of a guard heap", errno};
  auto engine = Engine::create_at(place, options);
  if (!engine) {
    static_cast<void>(sys::plain_munmap(place, kWhole));
    return engine.error();
  }
  static_assert(sizeof(Resource) <= kWhole - kEngineBytes);
  new (static_cast<std::byte*>(place) + kEngineBytes) Resource(**engine);
  return Heap(*engine);
}

void Heap::end() noexcept {
  if (engine_ == nullptr) return;
  engine_->end();
  static_cast<void>(sys::plain_munmap(engine_, kWhole));
  engine_ = nullptr;
}

Heap::~Heap() { end(); }
Heap::Heap(Heap&& other) noexcept : engine_(std::exchange(other.engine_, nullptr)) {}
Heap& Heap::operator=(Heap&& other) noexcept {
  if (this == &other) return *this;
  end();
  engine_ = std::exchange(other.engine_, nullptr);
  return *this;
}

void* Heap::allocate(std::size_t size, std::size_t alignment, Family family) noexcept {
  return engine_->allocate(size, alignment, family, false, __builtin_frame_address(0));
}
void* Heap::allocate_zeroed(std::size_t size) noexcept {
  return engine_->allocate(size, 1, Family::malloc, true, __builtin_frame_address(0));
}
void* Heap::reallocate(void* block, std::size_t size) noexcept {
  return engine_->reallocate(block, size, __builtin_frame_address(0));
}
void Heap::release(void* block, Family family) noexcept {
  if (block != nullptr)
    engine_->release(block, family, engine::kUnknownSize, __builtin_frame_address(0));
}
std::size_t Heap::usable_size(const void* block) const noexcept {
  return engine_->usable_size(block);
}
bool Heap::owns(const void* address) const noexcept { return engine_->contains(address); }
HeapStatistics Heap::statistics() const noexcept { return engine_->statistics(); }
std::pmr::memory_resource* Heap::resource() noexcept { return resource_of(engine_); }

namespace engine {

void* allocate(Engine& engine, std::size_t size, std::size_t alignment, Family family,
               const void* frame) noexcept {
  return engine.allocate(size, alignment, family, false, frame);
}
void* allocate_zeroed(Engine& engine, std::size_t size, const void* frame) noexcept {
  return engine.allocate(size, 1, Family::malloc, true, frame);
}
void* reallocate(Engine& engine, void* block, std::size_t size, const void* frame) noexcept {
  return engine.reallocate(block, size, frame);
}
void release(Engine& engine, void* block, Family family, std::size_t size,
             const void* frame) noexcept {
  engine.release(block, family, size, frame);
}
std::size_t usable_size(const Engine& engine, const void* block) noexcept {
  return engine.usable_size(block);
}
bool owns(const Engine& engine, const void* address) noexcept { return engine.contains(address); }
void check_buffer(Engine& engine, const void* from, std::size_t size, bool write, const char* call,
                  const void* frame) noexcept {
  engine.check_buffer(from, size, write, call, frame);
}
HeapStatistics statistics(const Engine& engine) noexcept { return engine.statistics(); }
void descriptors(const Engine& engine, int (&kept)[2]) noexcept { engine.descriptors(kept); }

}  // namespace engine

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

// What an Arena is made of.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include <pagetrap/guard/arena.hpp>
#include <pagetrap/vm/region.hpp>

#include "guard/arena/layout.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// The spans that objects of one type go to.
struct TypeSpans {
  const ObjectType* type = nullptr;
  // Number of the span in the upper half, of its next slot in the lower: one addition takes a slot,
  // and tells of which span it is.
  std::atomic<std::uint64_t> next{0};
};

struct Retired {
  void* object = nullptr;
  void (*destroy)(Arena& arena, void* object) noexcept = nullptr;
};

struct ArenaState {
  static Result<std::unique_ptr<ArenaState>> make(const ArenaOptions& options);
  ArenaState(Region reserved, sys::Mapping beside, const ArenaOptions& asked) noexcept;
  ~ArenaState();

  void* allocate(const ObjectType& type);
  /// The object is alive no more. False: it was not, and that is reported.
  bool end_life(void* object, const ObjectType& type) noexcept;
  /// `length` bytes at `begin` will never be an object again; drops the pages of which that is true
  /// as a whole.
  void account_dead(std::byte* begin, std::size_t length) noexcept;
  [[nodiscard]] Found find(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool alive(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE;
  void report(Misuse what, const void* address) noexcept PAGETRAP_SIGNAL_SAFE;

  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

  Region region;
  ArenaOptions options;
  std::mutex retiring;           // guards `retired` and `next_flush`
  std::vector<Retired> retired;  // objects without an owner
  std::size_t next_flush;        // at how many
  std::atomic<std::size_t> never_destroyed{0};
  std::atomic<std::size_t> pages_dropped{0};
  std::atomic<std::size_t> pages_kept{0};
  std::atomic<std::size_t> chunks_dropped{0};
  std::atomic<std::size_t> spans_used{0};

 private:
  TypeSpans& spans_of(const ObjectType& type);
  void open_span(TypeSpans& of);
  void drop(PageRange pages) noexcept;
  void drop_chunk(std::size_t index) noexcept;
  [[nodiscard]] std::size_t offset_of(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<std::uintptr_t>(address) -
           reinterpret_cast<std::uintptr_t>(region.data());
  }
  [[nodiscard]] std::atomic<std::uint64_t>& life_word(std::size_t offset) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return life_[offset / kGranule / 64];
  }
  static std::uint64_t life_bit(std::size_t offset) noexcept PAGETRAP_SIGNAL_SAFE {
    return std::uint64_t{1} << offset / kGranule % 64;
  }

  sys::Mapping tables_;                               // zeroes until used, and only then memory
  std::atomic<std::uint64_t>* life_ = nullptr;        // a bit for each granule
  Span* spans_ = nullptr;                             //
  std::atomic<std::uint32_t>* dead_bytes_ = nullptr;  // of each page
  std::atomic<std::uint32_t>* dead_pages_ = nullptr;  // of each chunk
  std::mutex opening_;                                // held to open a span, or to add a type
  std::array<std::atomic<TypeSpans*>, Arena::kMostTypes> types_{};
};

/// Makes all that other threads have published in shields visible here, and puts the addresses into
/// `shielded`, sorted. Allocates; EAGAIN and the like: an errno, and nothing is known.
int collect_shielded(std::vector<const void*>& shielded);

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

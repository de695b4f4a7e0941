// ColdPages: which slots have their object packed away, and how many have not.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>

#include "guard/cold/packed_store.hpp"
#include "guard/engine/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// A slot's word: kHot, kMoving while one thread (whoever stored it) opens, closes or packs its
/// page, or the number of its object's copy.
inline constexpr Packed kHot = kNoCopy;
inline constexpr Packed kMoving = 1;

/// Of class 1, whose objects have a page at most.
class ColdPages {
 public:
  constexpr ColdPages() = default;
  Result<Done> begin(const Layout& layout, std::size_t hot_bytes) noexcept;
  void end() noexcept;
  [[nodiscard]] bool on() const noexcept { return words_ != nullptr; }

  [[nodiscard]] std::atomic<Packed>& word(std::size_t slot) const noexcept { return words_[slot]; }
  /// Waits for whoever moves it, and returns what it was: kHot or a copy. The caller stores a new
  /// word soon. Not in a signal handler.
  Packed claim(std::size_t slot) const noexcept;

  /// Pages that could be packed: of live objects that do not stay. (Frames that wait for an object
  /// are at most 2 MiB a thread.)
  void became_more(std::size_t slot) noexcept {
    hot_.fetch_add(1, std::memory_order_relaxed);
    hot_in_chunk(slot).fetch_add(1, std::memory_order_relaxed);
  }
  void became_less(std::size_t slot) noexcept {
    hot_.fetch_sub(1, std::memory_order_relaxed);
    hot_in_chunk(slot).fetch_sub(1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::atomic<std::uint32_t>& hot_in_chunk(std::size_t slot) const noexcept {
    return hot_in_chunk_[slot / Layout::slots_in_chunk(1)];
  }
  [[nodiscard]] std::size_t budget_pages() const noexcept { return budget_; }
  /// Pages should be packed.
  [[nodiscard]] bool too_many() const noexcept {
    return hot_.load(std::memory_order_relaxed) > pack_at_.load(std::memory_order_relaxed);
  }
  /// After `packed` of them: none could be, so try again when there are many more.
  void look_again(bool packed) noexcept;

  PackedStore store;
  // Held while pages are packed, or brought back, so that fork() finds all objects in one place.
  std::atomic<bool> packing{false};
  std::atomic<bool> bringing{false};
  std::size_t hand = 0;             // slot that is looked at next; of whoever packs
  std::size_t lap_end = 0;          // where it goes back to the first one
  std::size_t staging = 0;          // first slot of the chunk that pages are packed in; 0: none yet
  std::byte* image = nullptr;       // a page that is being brought back; GUARDED_BY(bringing)
  std::atomic<bool> served{false};  // by the thread
  std::atomic<bool> refused{false};
  std::atomic<std::uint64_t> packed_ever{0};
  std::atomic<std::uint64_t> brought_back{0};

 private:
  std::atomic<Packed>* words_ = nullptr;
  std::atomic<std::uint32_t>* hot_in_chunk_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::size_t budget_ = 0;  // pages
  std::atomic<std::size_t> hot_{0};
  std::atomic<std::size_t> pack_at_{0};
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

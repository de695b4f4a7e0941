// Policy: which pages stay. The kernel gives user programs no accessed bits, so recency is what can
// be learnt from faults: that a page comes back soon after it went.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// A page frame in use, as policies know it. 0 is none.
using FrameId = std::uint32_t;
inline constexpr FrameId kNoFrame = 0;

/// The links that every frame lends to the list it is in.
struct FrameLinks {
  FrameId previous = kNoFrame;
  FrameId next = kNoFrame;
  std::uint8_t list = 0;  // which list of its policy it is in; 0: none
};

/// The table of links, indexed by FrameId. Borrowed from the pager.
class FrameTable {
 public:
  virtual FrameLinks& links(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE = 0;

 protected:
  ~FrameTable() = default;
};

/// An intrusive FIFO of frames: push at the back, take from the front, remove from anywhere.
class PAGETRAP_API FrameList {
 public:
  /// `number` goes into FrameLinks::list; not 0, and different for each list of a policy.
  explicit FrameList(std::uint8_t number) noexcept : number_(number) {}
  void push_back(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE;
  void push_front(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE;
  FrameId pop_front(FrameTable& table) noexcept PAGETRAP_SIGNAL_SAFE;  // kNoFrame: empty
  void remove(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] FrameId front() const noexcept PAGETRAP_SIGNAL_SAFE { return front_; }
  [[nodiscard]] std::size_t size() const noexcept PAGETRAP_SIGNAL_SAFE { return size_; }
  [[nodiscard]] std::uint8_t number() const noexcept PAGETRAP_SIGNAL_SAFE { return number_; }

 private:
  FrameId front_ = kNoFrame;
  FrameId back_ = kNoFrame;
  std::size_t size_ = 0;
  std::uint8_t number_;
};

/// What a policy is told of a frame beside its arrival.
enum class FrameEvent : std::uint8_t {
  kept,       // was a victim and stays: pinned, touched meanwhile, or it could not be written back
  will_need,  // hint
  dont_need,  // hint: next victim
  gone,       // has left without having been a victim; its id will be used again
};

/// Four calls. All are made with the pager's lock held and asynchronous signals blocked:
/// signal-safe, short, no fault. Every frame that was filled is in exactly one list of the policy
/// until it is a victim or gone.
class PAGETRAP_API Policy {
 public:
  virtual ~Policy();
  /// A page has come for the first time, or its last departure is forgotten.
  virtual void on_fill(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  /// A page has come back `evictions` evictions after it went.
  virtual void on_refault(FrameTable& table, FrameId frame, std::uint32_t evictions) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// Takes at most out.size() frames out of its lists, the least wanted first. Returns how many.
  virtual std::size_t victims(FrameTable& table, std::span<FrameId> out) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  virtual void on_event(FrameTable& table, FrameId frame, FrameEvent event) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// The frames that victims() would give next, without taking them: for Source::prepare.
  virtual std::size_t upcoming(FrameTable& table, std::span<FrameId> out) const noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
};

/// The default. A page that comes for the first time stands in a short probation queue (a twentieth
/// of all frames) and leaves soon; one that comes back while its departure is remembered (as many
/// evictions as there are frames) goes to the main queue. Both are FIFOs.
///
/// Source  2Q (Johnson & Shasha, VLDB 1994) with S3-FIFO's sizes (Yang et al., SOSP 2023); traces
/// of
///         our own: within 12% of exact LRU's misses at half the memory, better than LRU at a
///         quarter.
class PAGETRAP_API GhostQueues final : public Policy {
 public:
  void on_fill(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE override;
  void on_refault(FrameTable& table, FrameId frame, std::uint32_t evictions) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  std::size_t victims(FrameTable& table, std::span<FrameId> out) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  void on_event(FrameTable& table, FrameId frame, FrameEvent event) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  std::size_t upcoming(FrameTable& table, std::span<FrameId> out) const noexcept
      PAGETRAP_SIGNAL_SAFE override;

 private:
  [[nodiscard]] bool prefers_probation() const noexcept PAGETRAP_SIGNAL_SAFE;
  FrameList probation_{1};
  FrameList main_{2};
};

/// First in, first out: for pages that are all alike.
class PAGETRAP_API Fifo final : public Policy {
 public:
  void on_fill(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE override;
  void on_refault(FrameTable& table, FrameId frame, std::uint32_t evictions) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  std::size_t victims(FrameTable& table, std::span<FrameId> out) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  void on_event(FrameTable& table, FrameId frame, FrameEvent event) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  std::size_t upcoming(FrameTable& table, std::span<FrameId> out) const noexcept
      PAGETRAP_SIGNAL_SAFE override;

 private:
  FrameList all_{1};
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap

#include "compress/pool/slab.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// An entry of the table: the index of a segment, or one of these with a number beside it.
constexpr std::uint32_t kFreeId = 0x8000'0000;     // and the next free id + 1
constexpr std::uint32_t kElsewhere = 0x4000'0000;  // and where
constexpr std::uint32_t kNumber = kElsewhere - 1;

// Ids take address space only: enough for blobs of a hundredth of a page.
constexpr std::size_t kSmallest = 40;

Error no_room() noexcept PAGETRAP_SIGNAL_SAFE {
  return {"storing a blob", ENOMEM, {}, "raise the budget, or release something"};
}

}  // namespace

SlabStatistics& SlabStatistics::operator+=(const SlabStatistics& other) noexcept {
  blobs += other.blobs;
  blob_bytes += other.blob_bytes;
  held_bytes += other.held_bytes;
  slid_bytes += other.slid_bytes;
  moved_blobs += other.moved_blobs;
  return *this;
}

Result<Slab> Slab::create(std::size_t capacity, Budget& budget) {
  if (Segment::size_bytes() > 64_KiB)
    return Error{"Slab::create", ENOTSUP, {}, "pages of more than 16 KiB are not supported"};
  Slab slab;
  const std::size_t segments = (capacity + Segment::size_bytes() - 1) / Segment::size_bytes();
  if (segments == 0 || segments > kNumber) return Error{"Slab::create", EINVAL};
  slab.capacity_ = static_cast<std::uint32_t>(segments);
  const std::size_t ids = segments * Segment::size_bytes() / kSmallest;
  slab.max_blobs_ = ids < kMaxBlobs ? static_cast<std::uint32_t>(ids) : kMaxBlobs;

  auto blobs = own_memory(segments * Segment::size_bytes(), "pagetrap blobs");
  if (!blobs) return blobs.error();
  auto states = own_memory(segments * sizeof(SegmentState), "pagetrap blob segments");
  if (!states) return states.error();
  auto table = own_memory(slab.max_blobs_ * sizeof(std::uint32_t), "pagetrap blob table");
  if (!table) return table.error();
  auto bins = own_memory(sizeof(Bins), "pagetrap blob bins");
  if (!bins) return bins.error();
  if (!budget.take(bins->range().size_bytes())) return no_room();
  slab.budget_ = &budget;
  slab.segments_ = std::move(*blobs);
  slab.states_ = std::move(*states);
  slab.table_ = std::move(*table);
  slab.bins_ = std::move(*bins);
  slab.statistics_.held_bytes = slab.bins_.range().size_bytes();
  return slab;
}

// Before it is used by anybody.
Slab::Slab(Slab&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)),
      segments_(std::move(other.segments_)),
      states_(std::move(other.states_)),
      table_(std::move(other.table_)),
      bins_(std::move(other.bins_)),
      capacity_(other.capacity_),
      max_blobs_(other.max_blobs_),
      statistics_(other.statistics_) {}

Slab::~Slab() {
  if (budget_ != nullptr) budget_->give_back(statistics_.held_bytes);
}

Result<std::uint32_t> Slab::put(std::span<const std::byte> head,
                                std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t length = head.size() + body.size();
  if (length == 0 || length > Segment::size_bytes() / 2) return Error{"storing a blob", EINVAL};
  const Held held(lock_);
  const std::uint32_t index = room(length);
  if (index == Bins::kNone) return no_room();
  const std::uint32_t blob = fresh_id();
  if (blob == Bins::kNone) {
    if (states()[index].count == 0) {
      retire(index);
    } else {
      bins().add(states(), index);
    }
    return no_room();
  }
  std::byte* const to = segment(index).add(blob, length, statistics_.slid_bytes);
  if (!head.empty()) std::memcpy(to, head.data(), head.size());
  if (!body.empty()) std::memcpy(to + head.size(), body.data(), body.size());
  bins().add(states(), index);
  where(blob) = index;
  ++statistics_.blobs;
  statistics_.blob_bytes += length;
  return blob;
}

Slab::Found Slab::get(std::uint32_t blob, std::span<std::byte> out) noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  if (blob >= ever_blobs_) return {};
  const std::uint32_t at = where(blob);
  if ((at & kFreeId) != 0) return {};
  if ((at & kElsewhere) != 0) return {0, (at & kNumber) + 1};
  const std::span<const std::byte> found = segment(at).find(blob);
  if (found.empty() || found.size() > out.size()) return {};
  std::memcpy(out.data(), found.data(), found.size());
  return {found.size(), 0};
}

Slab::Found Slab::release(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  if (blob >= ever_blobs_) return {};
  const std::uint32_t at = where(blob);
  if ((at & kFreeId) != 0) return {};
  Found found;
  if ((at & kElsewhere) != 0) {
    found.elsewhere = (at & kNumber) + 1;
  } else {
    found.length = remove(at, blob);
  }
  where(blob) = kFreeId | free_ids_;
  free_ids_ = blob + 1;
  return found;
}

void Slab::divert(std::uint32_t blob, std::uint32_t elsewhere) noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  remove(where(blob), blob);
  where(blob) = kElsewhere | elsewhere;
}

// --- segments ---------------------------------------------------------------------------------

/// A segment with room for `length` bytes, taken out of its bin.
std::uint32_t Slab::room(std::size_t length) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    std::uint32_t index = bins().least(Segment::room_for(length));
    if (index != Bins::kNone) {
      bins().remove(states(), index);
      return index;
    }
    index = fresh_segment();
    // The budget is used up. What is free may be in many places.
    if (index != Bins::kNone || !step()) return index;
  }
}

std::uint32_t Slab::fresh_segment() noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t index = std::exchange(spare_, Bins::kNone);
  if (index == Bins::kNone) {
    if (!budget_->take(Segment::size_bytes())) return Bins::kNone;
    if (free_segments_ != 0) {
      index = free_segments_ - 1;
      free_segments_ = states()[index].next;
    } else if (ever_segments_ < capacity_ &&
               grow(states_touched_, (ever_segments_ + std::size_t{1}) * sizeof(SegmentState))) {
      index = ever_segments_++;
    } else {
      budget_->give_back(Segment::size_bytes());
      return Bins::kNone;
    }
    statistics_.held_bytes += Segment::size_bytes();
  }
  segment(index).clear();
  ++in_use_;
  return index;
}

/// A table is used up to `needed` bytes from now on.
bool Slab::grow(std::size_t& touched, std::size_t needed) noexcept PAGETRAP_SIGNAL_SAFE {
  if (needed <= touched) return true;
  const std::size_t more = bytes(pages_for(needed)) - touched;
  if (!budget_->take(more)) return false;
  touched += more;
  statistics_.held_bytes += more;
  return true;
}

std::uint32_t Slab::fresh_id() noexcept PAGETRAP_SIGNAL_SAFE {
  if (free_ids_ != 0) {
    const std::uint32_t blob = free_ids_ - 1;
    free_ids_ = where(blob) & ~kFreeId;
    return blob;
  }
  if (ever_blobs_ == max_blobs_ ||
      !grow(table_touched_, (ever_blobs_ + std::size_t{1}) * sizeof(std::uint32_t)))
    return Bins::kNone;
  return ever_blobs_++;
}

/// How long it was. The segment is in a bin, or is the victim.
std::size_t Slab::remove(std::uint32_t index, std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool binned = index != victim_;
  if (binned) bins().remove(states(), index);
  const std::size_t length = segment(index).remove(blob);
  if (length != 0) {
    --statistics_.blobs;
    statistics_.blob_bytes -= length;
  }
  if (states()[index].count == 0) {
    retire(index);
  } else if (binned) {
    bins().add(states(), index);
  }
  return length;
}

/// An empty segment, which is in no bin, gives its memory back, but for one.
void Slab::retire(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  if (index == victim_) victim_ = Bins::kNone;
  --in_use_;
  if (spare_ == Bins::kNone) {
    spare_ = index;
    return;
  }
  const PageRange memory{segments_.data() + index * Segment::size_bytes(), Segment::kPages};
  if (sys::advise(memory, MADV_DONTNEED) != 0) {
    // Locked in memory (mlockall): it stays ours, and stays counted.
    segment(index).clear();
    bins().add(states(), index);
    ++in_use_;
    return;
  }
  states()[index].next = free_segments_;
  free_segments_ = index + 1;
  budget_->give_back(Segment::size_bytes());
  statistics_.held_bytes -= Segment::size_bytes();
}

// --- compaction -------------------------------------------------------------------------------

bool Slab::compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE {
  for (; blobs > 0; --blobs) {
    const Held held(lock_);
    if (!step()) return false;
  }
  return true;
}

/// One blob further, with the lock held.
bool Slab::step() noexcept PAGETRAP_SIGNAL_SAFE {
  if (victim_ == Bins::kNone && !choose_victim()) return false;
  if (move_one()) return true;
  // It fits nowhere else.
  bins().add(states(), std::exchange(victim_, Bins::kNone));
  return false;
}

bool Slab::choose_victim() noexcept PAGETRAP_SIGNAL_SAFE {
  // What is free is less than a segment and 1% of the rest: remainders that nothing fits into.
  const std::size_t in_use = in_use_ * Segment::size_bytes();
  const std::size_t used = statistics_.blob_bytes + statistics_.blobs * sizeof(Segment::Entry);
  if (in_use_ < 2 || in_use - used < Segment::size_bytes() + in_use / 100) return false;
  victim_ = bins().most();
  if (victim_ == Bins::kNone) return false;
  bins().remove(states(), victim_);
  if (states()[victim_].count != 0) return true;
  retire(victim_);
  return false;
}

bool Slab::move_one() noexcept PAGETRAP_SIGNAL_SAFE {
  const Segment::Entry moved = segment(victim_).last();
  const std::uint32_t to = bins().least(Segment::room_for(moved.length));
  if (to == Bins::kNone) return false;
  bins().remove(states(), to);
  std::byte* const room = segment(to).add(moved.blob, moved.length, statistics_.slid_bytes);
  std::memcpy(room, segment(victim_).find(moved.blob).data(), moved.length);
  bins().add(states(), to);
  where(moved.blob) = to;
  segment(victim_).remove(moved.blob);
  ++statistics_.moved_blobs;
  if (states()[victim_].count == 0) retire(victim_);
  return true;
}

SlabStatistics Slab::statistics() noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  return statistics_;
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

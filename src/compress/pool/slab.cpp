#include "compress/pool/slab.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// An entry of the table: a number, and what it is.
constexpr std::uint32_t kFreeId = 0x8000'0000;     // the next free id + 1
constexpr std::uint32_t kElsewhere = 0x4000'0000;  // where
constexpr std::uint32_t kNumber = kElsewhere - 1;
// Neither: a segment, with one of these if it has only a part of the blob.
constexpr std::uint32_t kFirst = 0x2000'0000;
constexpr std::uint32_t kSecond = 0x1000'0000;
constexpr std::uint32_t kSegment = kSecond - 1;

// A piece of less is not worth its entry.
constexpr std::size_t kSmallestPiece = 64;

constexpr std::uint32_t kMostSpares = 8;

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
  Slab slab;
  const std::size_t segments = (capacity + Segment::size_bytes() - 1) / Segment::size_bytes();
  if (segments == 0 || segments > kSegment) return Error{"Slab::create", EINVAL};
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
  if (length == 0 || length > Segment::size_bytes() / 4) return Error{"storing a blob", EINVAL};
  const Held held(lock_);
  const std::uint32_t blob = fresh_id();
  if (blob == Bins::kNone) return no_room();
  Place found;
  if (!place(length, found)) {
    free_id(blob);
    return no_room();
  }
  if (!write(blob, found, head, body)) {
    put_back(found);
    free_id(blob);
    return no_room();
  }
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
  if ((at & kSecond) != 0) return {};  // nobody was given that id
  std::span<const std::byte> found = segment(at & kSegment).find(blob);
  std::span<const std::byte> rest;
  if ((at & kFirst) != 0 && found.size() > sizeof(Link)) {
    Link second = 0;
    std::memcpy(&second, found.data(), sizeof second);
    found = found.subspan(sizeof second);
    rest = segment(where(second) & kSegment).find(second);
  }
  const std::size_t length = found.size() + rest.size();
  if (found.empty() || length > out.size()) return {};
  std::memcpy(out.data(), found.data(), found.size());
  if (!rest.empty()) std::memcpy(out.data() + found.size(), rest.data(), rest.size());
  return {length, 0};
}

Slab::Found Slab::release(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  if (blob >= ever_blobs_) return {};
  const std::uint32_t at = where(blob);
  if ((at & (kFreeId | kSecond)) != 0 && (at & kElsewhere) == 0) return {};
  Found found;
  if ((at & kElsewhere) != 0) {
    found.elsewhere = (at & kNumber) + 1;
  } else {
    found.length = remove_all(blob);
  }
  free_id(blob);
  return found;
}

void Slab::divert(std::uint32_t blob, std::uint32_t elsewhere) noexcept PAGETRAP_SIGNAL_SAFE {
  const Held held(lock_);
  remove_all(blob);
  where(blob) = kElsewhere | elsewhere;
}

/// Both pieces; how long they were together.
std::size_t Slab::remove_all(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t at = where(blob);
  std::size_t length = 0;
  if ((at & kFirst) != 0) {
    Link second = 0;
    std::memcpy(&second, segment(at & kSegment).find(blob).data(), sizeof second);
    length = remove(where(second) & kSegment, second) - sizeof(Link);
    free_id(second);
  }
  length += remove(at & kSegment, blob);
  --statistics_.blobs;
  statistics_.blob_bytes -= length;
  return length;
}

// --- where a blob goes ------------------------------------------------------------------------

/// Bytes that are free in segments that have blobs.
std::size_t Slab::slack() const noexcept PAGETRAP_SIGNAL_SAFE {
  return in_use_ * Segment::size_bytes() - filled_;
}

bool Slab::place(std::size_t length, Place& place) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    place = {};
    place.segment = bins().least(Segment::room_for(length));
    if (place.segment != Bins::kNone) {
      bins().remove(states(), place.segment);
      return true;
    }
    // Remainders add up where blobs are of few lengths (three raw pages to a segment of four, and
    // no more): once they do, blobs are put into them in two pieces.
    const std::size_t in_use = in_use_ * Segment::size_bytes();
    const bool much = slack() > Segment::size_bytes() + in_use / 64;
    if (much && split(length, true, place)) return true;
    place.segment = fresh_segment();
    if (place.segment != Bins::kNone) return true;
    // The budget is used up, and what is free may be in many places.
    if (split(length, false, place)) return true;
    if (!step()) return false;
  }
}

/// `length` bytes in two pieces. Precondition: no segment has room for them in one.
bool Slab::split(std::size_t length, bool may_grow, Place& place) noexcept PAGETRAP_SIGNAL_SAFE {
  place = {};
  const std::uint32_t first = bins().most();
  if (first == Bins::kNone) return false;
  const std::size_t free = states()[first].free;
  if (free < Segment::room_for(sizeof(Link) + kSmallestPiece)) return false;
  const std::size_t piece = std::min(free - Segment::room_for(sizeof(Link)), length - 1);
  bins().remove(states(), first);
  std::uint32_t second = bins().least(Segment::room_for(length - piece));
  if (second != Bins::kNone) {
    bins().remove(states(), second);
  } else {
    second = may_grow ? fresh_segment() : Bins::kNone;
    if (second == Bins::kNone) {
      bins().add(states(), first);
      return false;
    }
  }
  place = {first, second, piece};
  return true;
}

/// Nothing is put there after all.
void Slab::put_back(const Place& place) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const std::uint32_t index : {place.segment, place.second}) {
    if (index == Bins::kNone) continue;
    if (states()[index].count == 0) {
      retire(index);
    } else {
      bins().add(states(), index);
    }
  }
}

/// Writes the blob where there is room for it. False: there is no id for its second piece.
bool Slab::write(std::uint32_t blob, const Place& place, std::span<const std::byte> head,
                 std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE {
  // `from` bytes of head and body, without the first `skipped`.
  const auto copy = [&](std::byte* to, std::size_t skipped, std::size_t count) {
    const std::size_t of_head =
        skipped < head.size() ? std::min(count, head.size() - skipped) : std::size_t{0};
    if (of_head != 0) std::memcpy(to, head.data() + skipped, of_head);
    if (count > of_head)
      std::memcpy(to + of_head, body.data() + (skipped + of_head - head.size()), count - of_head);
  };
  const std::size_t length = head.size() + body.size();
  if (place.second == Bins::kNone) {
    std::byte* const to = segment(place.segment).add(blob, length, statistics_.slid_bytes);
    copy(to, 0, length);
    where(blob) = place.segment;
    filled_ += Segment::room_for(length);
  } else {
    const Link second = fresh_id();
    if (second == Bins::kNone) return false;
    const std::size_t first_piece = sizeof second + place.first_length;
    std::byte* const to = segment(place.segment).add(blob, first_piece, statistics_.slid_bytes);
    std::memcpy(to, &second, sizeof second);
    copy(to + sizeof second, 0, place.first_length);
    where(blob) = place.segment | kFirst;
    const std::size_t rest = length - place.first_length;
    copy(segment(place.second).add(second, rest, statistics_.slid_bytes), place.first_length, rest);
    where(second) = place.second | kSecond;
    bins().add(states(), place.second);
    filled_ += Segment::room_for(first_piece) + Segment::room_for(rest);
  }
  bins().add(states(), place.segment);
  return true;
}

// --- segments ---------------------------------------------------------------------------------

std::uint32_t Slab::fresh_segment() noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t index = Bins::kNone;
  if (spares_ != 0) {
    index = spares_ - 1;
    spares_ = states()[index].next;
    --spare_count_;
  } else {
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

void Slab::free_id(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  where(blob) = kFreeId | free_ids_;
  free_ids_ = blob + 1;
}

/// One piece: how long it was. The segment is in a bin, or is the victim.
std::size_t Slab::remove(std::uint32_t index, std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool binned = index != victim_;
  if (binned) bins().remove(states(), index);
  const std::size_t length = segment(index).remove(blob);
  if (length != 0) filled_ -= Segment::room_for(length);
  if (states()[index].count == 0) {
    retire(index);
  } else if (binned) {
    bins().add(states(), index);
  }
  return length;
}

/// An empty segment, which is in no bin, gives its memory back, but for a few: that interrupts the
/// other CPUs of the process.
void Slab::retire(std::uint32_t index) noexcept PAGETRAP_SIGNAL_SAFE {
  if (index == victim_) victim_ = Bins::kNone;
  --in_use_;
  if (spare_count_ < std::min(kMostSpares, 1 + in_use_ / 512)) {
    states()[index].next = spares_;
    spares_ = index + 1;
    ++spare_count_;
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
  // The less may be free, the more is moved for each byte that is freed.
  const std::size_t in_use = in_use_ * Segment::size_bytes();
  if (in_use_ < 2 || slack() < Segment::size_bytes() + in_use / 80) return false;
  victim_ = bins().most();
  if (victim_ == Bins::kNone) return false;
  bins().remove(states(), victim_);
  if (states()[victim_].count != 0) return true;
  retire(victim_);
  return false;
}

/// Any of the victim's: what one has no room for may be longer than another.
bool Slab::move_one() noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t place = states()[victim_].count; place-- > 0;)
    if (move(segment(victim_).at(place))) return true;
  return false;
}

bool Slab::move(Segment::Entry moved) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t kind = where(moved.blob) & ~kSegment;
  Place to;
  to.segment = bins().least(Segment::room_for(moved.length));
  if (to.segment != Bins::kNone) {
    bins().remove(states(), to.segment);
  } else if (kind != 0 || !split(moved.length, false, to)) {
    return false;
  }
  const std::span<const std::byte> contents = segment(victim_).find(moved.blob);
  if (!write(moved.blob, to, {}, contents)) {
    put_back(to);
    return false;
  }
  where(moved.blob) |= kind;
  filled_ -= Segment::room_for(segment(victim_).remove(moved.blob));
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

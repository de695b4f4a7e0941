#include "store/campaign/sqlite/files.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace campaign {

using pagetrap::store::Bytes;
using pagetrap::store::failed;
using pagetrap::store::Operation;

namespace {

constexpr std::size_t kRoom = std::size_t{512} << 10;  // of a file
constexpr std::uint64_t kSector = 512;

std::uint64_t place_of(std::size_t file) { return file * kRoom; }

void must(const pagetrap::store::Outcome& outcome) {
  if (failed(outcome)) throw std::runtime_error(describe(outcome));
}

}  // namespace

Medium::Medium() : contents(kFiles * kRoom) { lengths.fill(-1); }

// Bytes and not sectors are its unit, since files end anywhere.
RecordedFiles::RecordedFiles(Medium before)
    : disk_(record_, std::move(before.contents), 1),
      lengths_(before.lengths),
      history_{{0, lengths_}} {}

bool RecordedFiles::read(File file, std::span<std::byte> to, std::uint64_t offset) {
  const auto there = static_cast<std::uint64_t>(std::max<std::int64_t>(length(file), 0));
  const std::size_t found = offset >= there ? 0 : std::min<std::size_t>(to.size(), there - offset);
  must(disk_.read(to.first(found), place_of(index(file)) + offset));
  std::fill(to.begin() + static_cast<std::ptrdiff_t>(found), to.end(), std::byte{0});
  return found == to.size();
}

// In whole sectors, as a page cache would write them.
bool RecordedFiles::write(File file, std::span<const std::byte> from, std::uint64_t offset) {
  if (offset > kRoom || from.size() > kRoom - offset) return false;
  const std::uint64_t begin = offset / kSector * kSector;
  const std::uint64_t end = (offset + from.size() + kSector - 1) / kSector * kSector;
  const std::uint64_t place = place_of(index(file)) + begin;
  Bytes sectors(end - begin);
  must(disk_.read(sectors, place));
  std::copy(from.begin(), from.end(),
            sectors.begin() + static_cast<std::ptrdiff_t>(offset - begin));
  must(disk_.write(sectors, place));
  for (std::uint64_t at = place; at < place + sectors.size(); at += kSector)
    unflushed_[index(file)].insert(at / kSector);
  // After what went before: a flush that a power failure cut off was not followed by anything.
  const auto longer = static_cast<std::int64_t>(offset + from.size());
  if (longer > length(file)) {
    lengths_[index(file)] = longer;
    history_.emplace_back(record_.operations.size(), lengths_);
  }
  return true;
}

void RecordedFiles::flush(File file) {
  std::set<std::uint64_t>& sectors = unflushed_[index(file)];
  const Bytes& now = disk_.contents();
  for (auto first = sectors.begin(); first != sectors.end();) {
    std::uint64_t behind = *first + 1;
    auto next = std::next(first);
    for (; next != sectors.end() && *next == behind; ++next) ++behind;
    const std::uint64_t place = *first * kSector;
    const Bytes run(now.begin() + static_cast<std::ptrdiff_t>(place),
                    now.begin() + static_cast<std::ptrdiff_t>(behind * kSector));
    must(disk_.write_durably(run, place));
    first = next;
  }
  sectors.clear();
}

void RecordedFiles::truncate(File file, std::int64_t length) {
  const auto from = static_cast<std::uint64_t>(std::max<std::int64_t>(length, 0));
  const auto to = static_cast<std::uint64_t>(std::max<std::int64_t>(this->length(file), 0));
  set_length(file, length);
  if (from >= to) return;
  // New blocks of a file read as zeroes.
  const std::uint64_t place = place_of(index(file));
  must(disk_.write_durably(Bytes(to - from), place + from));
  std::set<std::uint64_t>& sectors = unflushed_[index(file)];
  sectors.erase(sectors.lower_bound((place + from + kSector - 1) / kSector), sectors.end());
}

// An operation of its own, that no contents go with.
void RecordedFiles::set_length(File file, std::int64_t length) {
  lengths_[index(file)] = length;
  record_.add({Operation::Kind::extend, 0, {}});
  history_.emplace_back(record_.operations.size(), lengths_);
}

Medium RecordedFiles::medium() const {
  Medium medium;
  medium.contents = disk_.contents();
  medium.lengths = lengths_;
  return medium;
}

Medium RecordedFiles::medium(pagetrap::store::PowerFailure::State state) const {
  const auto after = std::find_if(history_.begin(), history_.end(),
                                  [&](const auto& entry) { return entry.first > state.at; });
  Medium medium;
  medium.contents = std::move(state.contents);
  medium.lengths = std::prev(after)->second;
  for (std::size_t file = 0; file < kFiles; ++file) {
    const std::int64_t length = std::max<std::int64_t>(medium.lengths[file], 0);
    const auto begin = medium.contents.begin() + static_cast<std::ptrdiff_t>(place_of(file));
    std::fill(begin + static_cast<std::ptrdiff_t>(length),
              begin + static_cast<std::ptrdiff_t>(kRoom), std::byte{0});
  }
  return medium;
}

}  // namespace campaign

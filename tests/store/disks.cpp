#include "store/disks.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pagetrap::store {

using Kind = Operation::Kind;

Outcome MemoryDisk::read(std::span<std::byte> to, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (offset > contents_.size() || to.size() > contents_.size() - offset)
    return {"read", EIO, {}, "", static_cast<std::int64_t>(offset)};
  std::memcpy(to.data(), contents_.data() + offset, to.size());
  return kDone;
}

Outcome MemoryDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  const std::lock_guard guard(lock_);
  if (offset % unit_ != 0 || from.size() % unit_ != 0) return {"write", EINVAL};
  if (offset + from.size() > contents_.size()) return {"write behind the end", EIO};
  std::memcpy(contents_.data() + offset, from.data(), from.size());
  return kDone;
}

Outcome MemoryDisk::write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  return MemoryDisk::write(from, offset);
}

// Never moves: pages are read while it grows.
Outcome MemoryDisk::extend(std::uint64_t size) noexcept {
  const std::lock_guard guard(lock_);
  if (contents_.capacity() < (std::size_t{64} << 20)) contents_.reserve(std::size_t{64} << 20);
  if (size > contents_.capacity()) return {"extend", ENOSPC};
  if (size > contents_.size()) contents_.resize(size);
  return kDone;
}

Outcome RecordingDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  record_.add({Kind::write, offset, Bytes(from.begin(), from.end())});
  return MemoryDisk::write(from, offset);
}
Outcome RecordingDisk::write_durably(std::span<const std::byte> from,
                                     std::uint64_t offset) noexcept {
  record_.add({Kind::write_durably, offset, Bytes(from.begin(), from.end())});
  return MemoryDisk::write(from, offset);
}
Outcome RecordingDisk::sync() noexcept {
  record_.add({Kind::sync, 0, {}});
  return kDone;
}
Outcome RecordingDisk::extend(std::uint64_t size) noexcept {
  record_.add({Kind::extend, size, {}});
  return MemoryDisk::extend(size);
}

namespace {

bool is_log(const Operation& operation, const Places& places) {
  return operation.offset >= places.log && operation.offset < places.data;
}
bool is_staging(const Operation& operation, const Places& places) {
  return operation.offset >= places.staging && operation.offset < places.log;
}
bool is_superblock(const Operation& operation, const Places& places) {
  return operation.kind == Kind::write_durably && operation.offset < places.staging;
}

}  // namespace

std::vector<Operation> with_bug(const std::vector<Operation>& operations, const Places& places,
                                Bug bug) {
  std::vector<Operation> wrong;
  enum class Last { other, staging, data } last = Last::other;
  for (const Operation& operation : operations) {
    Operation now = operation;
    const bool write = now.kind == Kind::write || now.kind == Kind::write_durably;
    const Last before = last;
    if (now.kind == Kind::write) {
      last = is_staging(now, places)     ? Last::staging
             : now.offset >= places.data ? Last::data
                                         : Last::other;
    }
    switch (bug) {
      case Bug::none:
        break;
      case Bug::no_log_flush:
        if (write && is_log(now, places)) now.kind = Kind::write;
        break;
      case Bug::no_staging_flush:
        if (now.kind == Kind::sync && before == Last::staging) continue;
        break;
      case Bug::no_page_flush:
      case Bug::superblock_first:
        if (now.kind == Kind::sync && before == Last::data) continue;
        break;
      case Bug::no_staging:
        if (write && is_staging(now, places)) continue;
        break;
      case Bug::one_superblock_flush:
        if (is_superblock(now, places)) now.kind = Kind::write;
        break;
    }
    if (bug == Bug::superblock_first && is_superblock(now, places)) {
      // In front of the pages of its checkpoint.
      auto place = wrong.end();
      while (place != wrong.begin() &&
             (place[-1].kind == Kind::write || place[-1].kind == Kind::sync ||
              is_superblock(place[-1], places)))
        --place;
      wrong.insert(place, std::move(now));
      continue;
    }
    wrong.push_back(std::move(now));
  }
  return wrong;
}

PowerFailure::PowerFailure(const std::vector<Operation>& operations, Bytes before)
    : operations_(operations), before_(std::move(before)) {
  for (std::size_t i = 0; i < operations.size(); ++i)
    if (operations[i].kind == Kind::write || operations[i].kind == Kind::sync)
      flushes_.push_back(i);
}

PowerFailure::State PowerFailure::choose(const RandomWords& random, Tearing tearing) const {
  constexpr unsigned kChances[] = {0, 26, 128, 230, 256};
  const unsigned chance = kChances[random() % 5];
  if (flushes_.empty() || random() % 2 == 0)
    return at(random() % (operations_.size() + 1), chance, random, tearing);
  return at(flushes_[random() % flushes_.size()] + random() % 2, chance, random, tearing);
}

PowerFailure::State PowerFailure::at(std::size_t at, unsigned chance, const RandomWords& random,
                                     Tearing tearing) const {
  State state{before_, 0, at};
  std::size_t synced = 0;  // writes before it are there
  for (std::size_t i = 0; i < at; ++i) {
    if (operations_[i].kind == Kind::sync) synced = i;
    if (operations_[i].kind == Kind::acknowledged) state.acknowledged = operations_[i].offset;
    // The length is the file system's affair: it is never less than what was written needs.
    if (operations_[i].kind == Kind::extend && operations_[i].offset > state.contents.size())
      state.contents.resize(operations_[i].offset);
  }
  const auto put = [&](const Operation& write) {
    std::copy(write.bytes.begin(), write.bytes.end(),
              state.contents.begin() + static_cast<std::ptrdiff_t>(write.offset));
  };
  for (std::size_t i = 0; i < synced; ++i)
    if (operations_[i].kind == Kind::write || operations_[i].kind == Kind::write_durably)
      put(operations_[i]);
  for (std::size_t i = synced; i < at; ++i) {
    const Operation& write = operations_[i];
    if (write.kind != Kind::write && write.kind != Kind::write_durably) continue;
    // One that has returned is there; the last one of all may not have.
    if (write.kind == Kind::write_durably && i + 1 < at) {
      put(write);
      continue;
    }
    const std::size_t piece = tearing == Tearing::none    ? write.bytes.size()
                              : tearing == Tearing::words ? 16
                                                          : 512;
    for (std::size_t from = 0; from < write.bytes.size(); from += piece) {
      if (random() % 256 >= chance) continue;
      const std::size_t length = std::min(piece, write.bytes.size() - from);
      auto to = state.contents.begin() + static_cast<std::ptrdiff_t>(write.offset + from);
      if (tearing == Tearing::garbage && random() % 10 == 0) {
        std::generate_n(to, length, [&] { return static_cast<std::byte>(random()); });
      } else {
        std::copy_n(write.bytes.begin() + static_cast<std::ptrdiff_t>(from), length, to);
      }
    }
  }
  return state;
}

void FailingDisk::fail(int error, std::uint64_t skip, bool half, bool forever) {
  const std::lock_guard guard(count_lock_);
  error_ = error;
  skip_ = skip;
  half_ = half;
  forever_ = forever;
  failed_once_ = false;
}

int FailingDisk::next() {
  const std::lock_guard guard(count_lock_);
  ++count_;
  if (error_ == 0 || (failed_once_ && !forever_)) return 0;
  if (skip_ != 0) {
    --skip_;
    return 0;
  }
  failed_once_ = true;
  return error_;
}

Outcome FailingDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  if (const int error = next()) {
    const std::size_t half = half_ ? from.size() / 2 / 512 * 512 : 0;
    static_cast<void>(MemoryDisk::write(from.first(half), offset));
    return {"write", error};
  }
  return MemoryDisk::write(from, offset);
}
Outcome FailingDisk::write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  return FailingDisk::write(from, offset);
}
Outcome FailingDisk::sync() noexcept {
  const int error = next();
  return error == 0 ? kDone : Outcome{"sync", error};
}
Outcome FailingDisk::extend(std::uint64_t size) noexcept {
  if (size <= this->size()) return kDone;
  const int error = growth_error_ != 0 ? growth_error_ : next();
  return error == 0 ? MemoryDisk::extend(size) : Outcome{"extend", error};
}

}  // namespace pagetrap::store

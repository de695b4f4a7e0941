#include "store/log/log.hpp"

#include <algorithm>

#include "store/log/sectors.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

Result<std::unique_ptr<Log>> Log::create(Disk& disk, const Shape& shape) {
  std::unique_ptr<Log> log(new Log(disk, shape));
  for (Batch* batch : {&log->filling_, &log->writing_}) {
    auto memory = SparseArray<std::byte>::create(shape.bytes);
    if (!memory) return memory.error();
    batch->bytes = std::move(*memory);
  }
  return log;
}

void Log::begin(std::uint64_t start, std::uint64_t next, std::uint32_t epoch) noexcept {
  const std::lock_guard guard(lock_);
  start_ = start;
  appended_ = durable_ = next;
  filling_.first = next;
  epoch_ = epoch;
}

// Half of it: the other half is being checkpointed meanwhile.
bool Log::fits_at_all(std::size_t payload_bytes) const noexcept {
  return sectors_for(payload_bytes, shape_.unit) <= sectors_ / 2;
}

bool Log::has_room(std::size_t payload_bytes) const noexcept {
  const std::lock_guard guard(lock_);
  return appended_ + sectors_for(payload_bytes, shape_.unit) - start_ <= sectors_;
}

std::uint64_t Log::append(std::span<const std::byte> payload, std::uint64_t commit) noexcept {
  const std::lock_guard guard(lock_);
  const std::uint64_t count = sectors_for(payload.size(), shape_.unit);
  const std::span<std::byte> to(filling_.bytes.data() + filling_.count * kSectorBytes,
                                count * kSectorBytes);
  encode_record({appended_, epoch_, commit, durable_}, payload, shape_.seed, to);
  filling_.count += count;
  appended_ += count;
  statistics_.records += 1;
  return appended_;
}

// One write and one flush, unless the batch goes round the end of the log.
Outcome Log::write(const Batch& batch, bool durably) noexcept {
  const std::uint64_t at = batch.first % sectors_;
  const std::uint64_t before_end = std::min(batch.count, sectors_ - at);
  const std::span<const std::byte> bytes(batch.bytes.data(), batch.count * kSectorBytes);
  const auto first = bytes.first(before_end * kSectorBytes);
  const auto rest = bytes.subspan(first.size());
  const std::uint64_t offset = shape_.offset + at * kSectorBytes;
  if (rest.empty() && durably && !unsynced_ && !bytes.empty())
    return disk_.write_durably(first, offset);
  if (!first.empty())
    if (const Outcome outcome = disk_.write(first, offset); failed(outcome)) return outcome;
  if (!rest.empty())
    if (const Outcome outcome = disk_.write(rest, shape_.offset); failed(outcome)) return outcome;
  return durably ? disk_.sync() : kDone;
}

Outcome Log::lead(std::unique_lock<std::mutex>& guard, bool durably) noexcept {
  leading_ = true;
  std::swap(filling_.bytes, writing_.bytes);
  writing_.first = filling_.first;
  writing_.count = filling_.count;
  filling_.first = appended_;
  filling_.count = 0;
  const std::uint64_t end = appended_;
  guard.unlock();
  const Outcome outcome = write(writing_, durably);
  guard.lock();
  leading_ = false;
  if (failed(outcome)) {
    if (!failed(failure_)) failure_ = outcome;
  } else if (durably) {
    durable_ = end;
    unsynced_ = false;
  } else {
    unsynced_ = true;
  }
  statistics_.flushes += durably ? 1 : 0;
  statistics_.bytes += writing_.count * kSectorBytes;
  changed_.notify_all();
  return outcome;
}

// RACE a follower's record may be in the batch that is being written, or in the next one: it looks
// at what is durable whenever a leader has come back, and leads itself if there is no leader.
Outcome Log::wait_durable(std::uint64_t end) noexcept {
  std::unique_lock guard(lock_);
  while (durable_ < end) {
    if (failed(failure_)) return failure_;
    if (leading_) {
      changed_.wait(guard);
    } else if (const Outcome outcome = lead(guard, true); failed(outcome)) {
      return outcome;
    }
  }
  return kDone;
}

Outcome Log::write_behind(std::size_t bytes) noexcept {
  std::unique_lock guard(lock_);
  if (failed(failure_)) return failure_;
  if (leading_ || filling_.count * kSectorBytes <= bytes) return kDone;
  return lead(guard, false);
}

void Log::release(std::uint64_t start) noexcept {
  const std::lock_guard guard(lock_);
  start_ = std::max(start_, start);
}

std::uint64_t Log::start() const noexcept {
  const std::lock_guard guard(lock_);
  return start_;
}
std::uint64_t Log::appended() const noexcept {
  const std::lock_guard guard(lock_);
  return appended_;
}
std::uint64_t Log::durable() const noexcept {
  const std::lock_guard guard(lock_);
  return durable_;
}
bool Log::is_half_full() const noexcept {
  const std::lock_guard guard(lock_);
  return appended_ - start_ > sectors_ / 2;
}
Outcome Log::failure() const noexcept {
  const std::lock_guard guard(lock_);
  return failure_;
}
LogStatistics Log::statistics() const noexcept {
  const std::lock_guard guard(lock_);
  return statistics_;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

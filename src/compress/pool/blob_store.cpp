#include "compress/pool/blob_store.hpp"

#include <cerrno>
#include <utility>

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

Error no_such_blob() noexcept PAGETRAP_SIGNAL_SAFE { return {"reading a blob", ENOENT}; }

}  // namespace

Result<Done> BlobStore::open(std::size_t capacity, unsigned shards) {
  if (shards == 0 || shards > kMaxShards) return Error{"BlobStore::open", EINVAL};
  // Each may grow to all of it: addresses are cheap, and shards need not be equally full.
  for (unsigned i = 0; i < shards; ++i) {
    auto slab = Slab::create(capacity, *budget_);
    if (!slab) return slab.error();
    shards_[i].emplace(std::move(*slab));
    shard_count_ = i + 1;
  }
  return Done{};
}

Result<Done> BlobStore::open_spill(sys::Descriptor file, std::uint64_t limit) {
  auto spill = SpillFile::create(std::move(file), limit, *budget_);
  if (!spill) return spill.error();
  spill_.emplace(std::move(*spill));
  return Done{};
}

Result<BlobId> BlobStore::put(std::span<const std::byte> head,
                              std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t first = next_shard_.fetch_add(1, std::memory_order_relaxed);
  Error error{"storing a blob", ENOMEM};
  // Where one is full another may have holes.
  for (std::uint32_t i = 0; i < shard_count_; ++i) {
    const std::uint32_t shard = (first + i) % shard_count_;
    const auto id = shards_[shard]->put(head, body);
    if (id) return *id * shard_count_ + shard;
    error = id.error();
    if (error.number != ENOMEM) break;
  }
  return error;
}

Result<std::size_t> BlobStore::get(BlobId blob, std::span<std::byte> out) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Slab::Found found = shard_of(blob).get(blob / shard_count_, out);
  if (found.length != 0) return found.length;
  if (found.elsewhere != 0 && spill_) return spill_->read(found.elsewhere - 1, out);
  return no_such_blob();
}

Result<bool> BlobStore::release(BlobId blob) noexcept PAGETRAP_SIGNAL_SAFE {
  const Slab::Found found = shard_of(blob).release(blob / shard_count_);
  if (found.elsewhere != 0 && spill_) {
    spill_->release(found.elsewhere - 1);
    return true;
  }
  if (found.length == 0) return no_such_blob();
  return false;
}

Result<Done> BlobStore::spill(BlobId blob, std::span<std::byte> scratch) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!spill_) return Error{"spilling a blob", ENOTSUP, {}, "give the store a file to spill to"};
  Slab& shard = shard_of(blob);
  const Slab::Found found = shard.get(blob / shard_count_, scratch);
  if (found.elsewhere != 0) return Error{"spilling a blob", EALREADY};
  if (found.length == 0) return no_such_blob();
  const auto slot = spill_->write(scratch.first(found.length));
  if (!slot) return slot.error();
  // RACE a get() meanwhile: it found the blob in memory before this, or finds it in the file after.
  shard.divert(blob / shard_count_, *slot);
  return Done{};
}

bool BlobStore::compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE {
  bool more = false;
  for (unsigned i = 0; i < shard_count_; ++i) more |= shards_[i]->compact(blobs);
  return more;
}

SlabStatistics BlobStore::statistics() noexcept PAGETRAP_SIGNAL_SAFE {
  SlabStatistics sum;
  for (unsigned i = 0; i < shard_count_; ++i) sum += shards_[i]->statistics();
  return sum;
}

void BlobStore::lock_all() noexcept PAGETRAP_SIGNAL_SAFE {
  for (unsigned i = 0; i < shard_count_; ++i) shards_[i]->lock().lock();
  if (spill_) spill_->lock().lock();
}

void BlobStore::unlock_all() noexcept PAGETRAP_SIGNAL_SAFE {
  if (spill_) spill_->lock().unlock();
  for (unsigned i = shard_count_; i-- > 0;) shards_[i]->lock().unlock();
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

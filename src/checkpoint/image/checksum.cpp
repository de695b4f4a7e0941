#include "checkpoint/image/checksum.hpp"

#include <xxhash.h>

#include <new>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

ContentHash content_hash(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.low64, hash.high64};
}

// What xxhash calls XXH3_state_t, which only it may know the size of.
namespace {
XXH3_state_t* known(void* state) { return static_cast<XXH3_state_t*>(state); }
}  // namespace

RunningChecksum::RunningChecksum() : state_(reinterpret_cast<State*>(XXH3_createState())) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(known(state_));
}

RunningChecksum::~RunningChecksum() { XXH3_freeState(known(state_)); }

void RunningChecksum::add(std::span<const std::byte> bytes) noexcept {
  XXH3_64bits_update(known(state_), bytes.data(), bytes.size());
}

std::uint64_t RunningChecksum::value() const noexcept { return XXH3_64bits_digest(known(state_)); }

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

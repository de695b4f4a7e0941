#include "checkpoint/image/checksum.hpp"

#include <xxhash.h>

#include <cstddef>
#include <new>

// The same functions with the widest vectors of the processor, which they find out when first
// called: a third of the time of the others, which know what every x86-64 has (28 and 75 ms for a
// GiB in the cache). Weak: xxhash may be built without them, as its static library in Debian is.
extern "C" {
// NOLINTBEGIN(readability-identifier-naming): the names of xxhash
[[gnu::weak]] XXH64_hash_t XXH3_64bits_withSeed_dispatch(const void*, std::size_t, XXH64_hash_t);
[[gnu::weak]] XXH128_hash_t XXH3_128bits_withSeed_dispatch(const void*, std::size_t, XXH64_hash_t);
// NOLINTEND(readability-identifier-naming)
}

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

struct Functions {
  XXH64_hash_t (*checksum)(const void*, std::size_t, XXH64_hash_t) = XXH3_64bits_withSeed;
  XXH128_hash_t (*content_hash)(const void*, std::size_t, XXH64_hash_t) = XXH3_128bits_withSeed;
};

Functions choose() noexcept {
  Functions functions;
  if (XXH3_64bits_withSeed_dispatch == nullptr || XXH3_128bits_withSeed_dispatch == nullptr) {
    return functions;
  }
  functions = {XXH3_64bits_withSeed_dispatch, XXH3_128bits_withSeed_dispatch};
  // RACE the first call of each fills a table of xxhash's that no lock protects, if it is given
  // more than 240 bytes. Here one thread makes it, while the others wait for this to be chosen.
  static constexpr std::byte kLong[512]{};
  functions.checksum(kLong, sizeof kLong, 0);
  functions.content_hash(kLong, sizeof kLong, 0);
  return functions;
}

const Functions& functions() noexcept {
  static const Functions chosen = choose();
  return chosen;
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  return functions().checksum(bytes.data(), bytes.size(), seed);
}

ContentHash content_hash(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  const XXH128_hash_t hash = functions().content_hash(bytes.data(), bytes.size(), seed);
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

#include "store/format/checksum.hpp"

#include <xxhash.h>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

namespace {

struct Request {
  std::span<const std::byte> bytes;
  std::uint64_t seed;
  std::uint64_t sum;
};

void compute(void* self) {
  auto& request = *static_cast<Request*>(self);
  request.sum = XXH3_64bits_withSeed(request.bytes.data(), request.bytes.size(), request.seed);
}

}  // namespace

// WHY not the variant that picks the widest vectors: its first call fills a table that no lock
// protects, and here that may be in a fault handler. For a page the two differ by 0.1 us.
std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) noexcept
    PAGETRAP_SIGNAL_SAFE {
  // XXH3 with a seed allocates nothing, keeps no state and takes no lock: it derives its secret on
  // the stack. The compiler cannot see that.
  Request request{bytes, seed, 0};
  sys::call_unproved(compute, &request);
  return request.sum;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

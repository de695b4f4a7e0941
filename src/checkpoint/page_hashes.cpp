#include "checkpoint/page_hashes.hpp"

#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

Result<Done> PageHashes::create(Pages pages) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(pages_for(pages.count() * sizeof(ContentHash)));
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  if (::getrandom(&seed_, sizeof seed_, 0) != static_cast<ssize_t>(sizeof seed_))
    return Error{"getrandom", errno};
  sys::name_mapping(memory_.range(), "pagetrap:hashes");
  return Done{};
}

void PageHashes::forget() noexcept {
  if (!valid() || sys::advise(memory_.range(), MADV_DONTNEED) == 0) return;
  std::fill_n(memory_.data(), memory_.range().size_bytes(), std::byte{});
}

bool PageHashes::is_same(std::size_t page, std::span<const std::byte> contents) noexcept {
  ContentHash& known = reinterpret_cast<ContentHash*>(memory_.data())[page];
  const ContentHash now = content_hash(contents, seed_);
  if (known == now) return true;
  known = now;
  return false;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

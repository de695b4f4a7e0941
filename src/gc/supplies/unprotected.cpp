// Nothing is protected. A heap over it does whole cycles inside the flip, and takes every old page
// for written: the same collector for sanitizers, and for kernels that have nothing better.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "gc/supplier.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

class Unprotected final : public PageSupplier {
 public:
  explicit Unprotected(sys::Mapping memory) noexcept : memory_(std::move(memory)) {}

  [[nodiscard]] PageSupply id() const noexcept override { return PageSupply::none; }
  [[nodiscard]] bool closes() const noexcept override { return false; }
  [[nodiscard]] PageRange range() const noexcept override { return memory_.range(); }
  [[nodiscard]] std::ptrdiff_t view() const noexcept override { return 0; }
  Outcome close_all() noexcept override { return kDone; }
  Outcome open(PageRange, bool) noexcept PAGETRAP_SIGNAL_SAFE override { return kDone; }
  Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept override {
    if (out.empty()) return Error{"gc", ENOBUFS, part};
    out[0] = part;
    return std::size_t{1};
  }
  Outcome close(PageRange) noexcept override { return kDone; }
  Outcome find_written(PageRange part, std::span<PageRange> out,
                       std::size_t& found) noexcept override {
    found = out.size();
    std::fill(out.begin(), out.end(), PageRange{part.base, Pages{0}});
    return kDone;
  }
  Outcome place(PageRange pages, std::uint64_t first_word) noexcept override {
    return place_through_view(*this, pages, first_word);
  }
  Outcome drop(PageRange pages) noexcept override {
    const int error = sys::advise(pages, MADV_DONTNEED);
    return error == 0 ? kDone : Error{"MADV_DONTNEED", error, pages};
  }
  Outcome on_trap(Handler, void*) noexcept override { return kDone; }
  void quiesce() noexcept override {}
  [[nodiscard]] bool forks() const noexcept override { return true; }

 private:
  sys::Mapping memory_;
};

}  // namespace

Result<std::unique_ptr<PageSupplier>> make_unprotected(std::byte* address, std::size_t size_bytes) {
  sys::Mapping::Request request;
  request.size_bytes = size_bytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  request.address = address;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  return std::unique_ptr<PageSupplier>(std::make_unique<Unprotected>(std::move(*memory)));
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap

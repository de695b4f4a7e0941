// Twenty faults, then the word "ready", then a wait for the end of standard input.
#include <unistd.h>

#include <cstdio>

#include <pagetrap/trace/trace.hpp>
#include <pagetrap/vm/vm.hpp>

namespace {

using pagetrap::Access;
using pagetrap::Fault;
using pagetrap::Pages;
using pagetrap::Region;
using pagetrap::Verdict;

Verdict open_page(void*, const Fault& fault) noexcept {
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

}  // namespace

int main() {
  pagetrap::RegionOptions options;
  options.backend = pagetrap::BackendId::mprotect;
  Region region = Region::create(pagetrap::bytes(Pages{20}), options).value();
  region.on_fault(open_page, nullptr).value();
  region.protect(region.range(), Access::read).value();
  for (std::byte* at = region.data(); at < region.range().end(); at += pagetrap::page_size())
    *reinterpret_cast<volatile char*>(at + 9) = 1;
  std::printf("ready %p %d\n", static_cast<void*>(region.data()),
              pagetrap::trace::enabled(pagetrap::trace::Kind::fault) ? 1 : 0);
  std::fflush(stdout);
  char ignored = 0;
  while (::read(STDIN_FILENO, &ignored, 1) > 0) {
  }
  return 0;
}

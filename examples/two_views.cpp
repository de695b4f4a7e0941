// MAP2: the same pages at two addresses with different rights. The program may not touch a page
// before it is complete; the handler fills it through the other view, then publishes it.
#include <cstdio>
#include <cstring>
#include <exception>

#include <pagetrap/vm/vm.hpp>

namespace {

using namespace pagetrap;

/// Runs when the program touches a page that is not there yet.
Verdict fill(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const View& behind = *static_cast<const View*>(self);
  // Nobody can see the page while it is being written: not this thread, nor any other.
  std::memset(behind.at(fault.page.base), 'x', page_size());
  const auto published = fault.region->supply(fault.page, nullptr, Supply::publish);
  return published ? Verdict::resolved : Verdict::not_mine;
}

}  // namespace

int main() try {
  constexpr FaultSet kWanted = FaultKind::missing | FaultKind::minor;
  auto region = Region::create(1_MiB, {.backing = Backing::memfd, .faults = kWanted}).value();
  View behind = region.map_twice(Access::read_write).value();
  region.on_fault(fill, &behind).value();

  const char* const text = reinterpret_cast<const char*>(region.data());
  std::printf("page 7 starts with '%c'\n", text[7 * page_size()]);

  // Both addresses are the same memory.
  behind.data()[7 * page_size()] = std::byte{'y'};
  std::printf("now with '%c'\n", text[7 * page_size()]);
  return text[7 * page_size()] == 'y' ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "two_views: %s\n", error.what());
  return 1;
}

// DIRTY, MAP2, guard.
#include <cerrno>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "primitives.hpp"

namespace pagetrap::tool {
namespace {

const char* dirty_form_name(DirtyForm form) {
  switch (form) {
    case DirtyForm::none:
      return "none";
    case DirtyForm::best:
      return "best";
    case DirtyForm::scan:
      return "scan";
    case DirtyForm::traps:
      return "traps";
    case DirtyForm::ring:
      return "ring";
  }
  return "?";
}

void store_to(Region& region, std::size_t page_index) {
  *reinterpret_cast<volatile char*>(region.data() + bytes(Pages{page_index})) = 1;
}

void populate(Region& region) {
  for (std::size_t i = 0; i < pages_for(region.size_bytes()).count(); ++i) store_to(region, i);
}

}  // namespace

void measure_dirty(Budget budget, Measured& out) {
  constexpr Pages kPages{4096};
  constexpr std::size_t kWritten = 64;
  constexpr std::size_t kStride = 61;  // odd, so that the pages are scattered and all different
  auto region =
      Region::create(bytes(kPages), {.huge_pages = HugePages::never, .dirty = DirtyForm::best})
          .value();
  out.mechanism.set(dirty_form_name(region.dirty_form()));
  populate(region);
  std::vector<PageRange> found;
  found.reserve(kPages.count());
  region.dirty(region.range(), found).value();

  Samples write(budget);
  Samples collect(budget);
  Samples clean(budget);
  while (collect.wants_more()) {
    const double begin = now_ns();
    for (std::size_t i = 0; i < kWritten; ++i) store_to(region, i * kStride);
    const double written = now_ns();
    found.clear();
    const Pages count = region.dirty(region.range(), found).value();
    const double collected = now_ns();
    if (count.count() != kWritten) {
      throw SystemError({"dirty() did not find exactly the pages written", EPROTO, region.range()});
    }
    found.clear();
    const double before_clean = now_ns();
    region.dirty(region.range(), found).value();
    clean.add(now_ns() - before_clean);
    write.add((written - begin) / kWritten);
    collect.add(collected - written);
  }
  out.add("first write", write.median());
  out.add("scan, per clean page", clean.median() / static_cast<double>(kPages.count()));
  out.add("collect 64 of 4096 pages", collect.median());
}

void measure_map_twice(Budget budget, Measured& out) {
  constexpr Pages kPages{1024};
  auto region = Region::create(bytes(kPages), {.backing = Backing::memfd}).value();
  out.mechanism.set("memfd");
  populate(region);
  Samples call(budget);
  Samples touch(budget);
  while (call.wants_more()) {
    const double begin = now_ns();
    const View view = region.map_twice(Access::read_write).value();
    const double mapped = now_ns();
    for (std::size_t i = 0; i < kPages.count(); ++i) {
      *reinterpret_cast<volatile char*>(view.data() + bytes(Pages{i})) = 2;
    }
    touch.add((now_ns() - mapped) / static_cast<double>(kPages.count()));
    call.add(mapped - begin);
  }
  if (region.data()[0] != std::byte{2}) {
    throw SystemError({"the second view does not show the same memory", EPROTO, region.range()});
  }
  out.add("map a second view", call.median());
  out.add("first touch through it, per page", touch.median());
}

void measure_guard(Budget budget, Measured& out) {
  constexpr Pages kPages{512};
  auto region = Region::create(bytes(kPages), {.faults = FaultKind::no_access}).value();
  out.mechanism.set(name(region.backend()));
  populate(region);
  Samples install(budget);
  Samples remove(budget);
  while (install.wants_more()) {
    const double begin = now_ns();
    std::size_t count = 0;
    for (std::size_t i = 0; i < kPages.count(); i += 2, ++count) {  // no two together
      region.guard({region.data() + bytes(Pages{i}), Pages{1}}).value();
    }
    const double installed = now_ns();
    for (std::size_t i = 0; i < kPages.count(); i += 2) {
      region.unguard({region.data() + bytes(Pages{i}), Pages{1}}).value();
    }
    install.add((installed - begin) / static_cast<double>(count));
    remove.add((now_ns() - installed) / static_cast<double>(count));
  }
  out.add("install one", install.median());
  out.add("remove one", remove.median());
}

}  // namespace pagetrap::tool

// From an address that faulted to what was done wrong.
#include "guard/engine/engine.hpp"
#include "guard/unwind/unwind.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// How far away an object may be and still be what was meant, in slots.
constexpr std::size_t kNear = 512;

std::uintptr_t number(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<std::uintptr_t>(address);
}

std::uintptr_t distance(std::uintptr_t address, std::uintptr_t object, std::size_t size) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (address < object) return object - address;
  return address >= object + size ? address - (object + size) + 1 : 0;
}

}  // namespace

bool Engine::about(const SlotPlace& place, Finding& finding) const noexcept PAGETRAP_SIGNAL_SAFE {
  const Slot& known = slot(place.size_class, place.number);
  const Facts facts = known.read();
  if (facts.state() == SlotState::unused) return false;
  finding.has_object = true;
  finding.object = reinterpret_cast<const std::byte*>(place.start + known.offset);
  finding.object_size = facts.size();
  finding.object_freed = facts.state() == SlotState::freed;
  finding.object_family = facts.family();
  finding.allocated_at = known.allocated_at;
  finding.allocated_by = known.allocated_by;
  finding.freed_at = finding.object_freed ? known.freed_at : 0;
  finding.freed_by = finding.object_freed ? known.freed_by : 0;
  return true;
}

// The nearest object, live ones first: a guard belongs to its neighbours on both sides.
void Engine::nearest(const SlotPlace& place, const void* address, Finding& finding) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::size_t slots = layout_.slots(place.size_class);
  std::uintptr_t best = ~std::uintptr_t{0};
  bool best_is_live = false;
  SlotPlace found;
  const auto look = [&](std::size_t at) noexcept PAGETRAP_SIGNAL_SAFE {
    const Slot& known = slot(place.size_class, at);
    const Facts facts = known.read();
    if (facts.state() == SlotState::unused) return;
    const std::uintptr_t start = layout_.start(place.size_class, at);
    const std::uintptr_t far = distance(number(address), start + known.offset, facts.size());
    const bool live = facts.state() == SlotState::live;
    // A live one that is as near as its page's size goes before a dead one.
    const bool better = live == best_is_live ? far < best : live && far <= Layout::slot_bytes(1);
    if (!better) return;
    best = far;
    best_is_live = live;
    found = {place.size_class, at, start};
  };
  for (std::size_t step = 0; step < kNear; ++step) {
    if (best != ~std::uintptr_t{0} && step > 2) break;
    if (place.number >= step) look(place.number - step);
    if (step != 0 && place.number + step < slots) look(place.number + step);
  }
  if (found.size_class != kClasses) static_cast<void>(about(found, finding));
}

bool Engine::explain(const void* address, Finding& finding) noexcept PAGETRAP_SIGNAL_SAFE {
  const SlotPlace place = layout_.find(address);
  const Slot& known = slot(place.size_class, place.number);
  const Facts facts = known.read();
  finding.address = address;
  finding.problem = Problem::wild_access;
  if (facts.state() != SlotState::unused) {
    const PageRange pages = pages_of(place.start, known.offset, facts.size());
    if (pages.contains(address)) {
      if (facts.state() == SlotState::live) {
        // A page of it that is not there: nobody ever wrote it, and a fork() left it out.
        return !pages_.let_through(page_of(address)) && about(place, finding);
      }
      finding.problem = Problem::use_after_free;
      return about(place, finding);
    }
  }
  nearest(place, address, finding);
  if (!finding.has_object) return true;
  const std::uintptr_t object = number(finding.object);
  if (number(address) - object < finding.object_size) {
    finding.problem = Problem::use_after_free;
  } else if (finding.object_freed && facts.state() == SlotState::freed) {
    finding.problem = Problem::use_after_free;
  } else {
    finding.problem = number(address) < object ? Problem::underflow : Problem::overflow;
  }
  return true;
}

bool Engine::let_through(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageRange page = page_of(address);
  if (!pages_.let_through(page)) return false;
  const std::size_t turn = let_through_count_.fetch_add(1);
  let_through_[turn % let_through_.size()].store(page.base);
  return true;
}

void Engine::close_again() noexcept {
  if (let_through_count_.exchange(0) == 0) return;
  for (auto& entry : let_through_) {
    std::byte* const base = entry.exchange(nullptr);
    if (base == nullptr) continue;
    const PageRange page{base, Pages{1}};
    const SlotPlace place = layout_.find(base);
    const Slot& known = slot(place.size_class, place.number);
    const Facts facts = known.read();
    // RACE another thread was given the slot meanwhile: its page is its own.
    if (facts.state() == SlotState::live &&
        pages_of(place.start, known.offset, facts.size()).contains(page))
      continue;
    pages_.close_again(page);
  }
}

void Engine::check_buffer(const void* from, std::size_t size, bool write, const char* call,
                          const void* frame) noexcept {
  if (size == 0 || !layout_.contains(from)) return;
  const SlotPlace place = layout_.find(from);
  const Slot& known = slot(place.size_class, place.number);
  const Facts facts = known.read();
  const std::uintptr_t object = place.start + known.offset;
  const std::uintptr_t into = number(from) - object;
  const bool inside = into < facts.size();
  if (facts.state() == SlotState::live && inside && size <= facts.size() - into) return;
  Finding finding;
  finding.call = call;
  finding.call_size = size;
  finding.write = write;
  finding.address = from;
  if (facts.state() == SlotState::live && inside) {
    finding.problem = Problem::overflow;
    finding.address = reinterpret_cast<const void*>(object + facts.size());
    static_cast<void>(about(place, finding));
  } else if (facts.state() == SlotState::freed && inside) {
    finding.problem = Problem::use_after_free;
    static_cast<void>(about(place, finding));
  } else {
    if (!about(place, finding)) nearest(place, from, finding);
    if (finding.has_object)
      finding.problem =
          number(from) < number(finding.object) ? Problem::underflow : Problem::overflow;
    if (finding.object_freed) finding.problem = Problem::use_after_free;
  }
  finding.here = stack_from(frame);
  report(finding);
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

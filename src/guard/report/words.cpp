#include "guard/report/words.hpp"

#include <array>

#include "guard/stacks/recursion.hpp"
#include "guard/stacks/watched_stack.hpp"
#include "sys/process_names.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

std::uintptr_t number(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<std::uintptr_t>(address);
}

void count(Text& text, std::uint64_t how_many, std::string_view what) noexcept
    PAGETRAP_SIGNAL_SAFE {
  text.number(how_many).add(" ").add(what).add(how_many == 1 ? "" : "s");
}

std::string_view title(Problem problem) noexcept PAGETRAP_SIGNAL_SAFE {
  switch (problem) {
    case Problem::overflow:
      return "heap overflow";
    case Problem::underflow:
      return "heap underflow";
    case Problem::use_after_free:
      return "use after free";
    case Problem::wild_access:
      return "wild access";
    case Problem::overwritten:
      return "bytes beside a block were overwritten";
    case Problem::double_free:
      return "double free";
    case Problem::invalid_free:
      return "invalid free";
    case Problem::wrong_function:
      return "wrong function to free a block";
    case Problem::wrong_size:
      return "wrong size given to operator delete";
    case Problem::stack_overflow:
      return "stack overflow";
  }
  return "?";
}

// ", 1 byte after a 21-byte block"
void where(const Finding& finding, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  if (finding.used_up != nullptr) {
    const WatchedStack& stack = *finding.used_up->stack;
    text.add(", below a stack of ").number((stack.high - stack.low) >> 10).add(" KiB");
    return;
  }
  if (!finding.has_object) {
    text.add(", near no block");
    return;
  }
  const std::uintptr_t at = number(finding.address);
  const std::uintptr_t object = number(finding.object);
  const std::string_view of = finding.object_freed ? "-byte block that was freed" : "-byte block";
  text.add(", ");
  if (at < object) {
    count(text, object - at, "byte");
    text.add(" before a ");
  } else if (at >= object + finding.object_size) {
    count(text, at - object - finding.object_size + 1, "byte");
    text.add(" after a ");
  } else if (at == object) {
    text.add("at the start of a ");
  } else {
    count(text, at - object, "byte");
    text.add(" into a ");
  }
  text.number(finding.object_size).add(of);
}

void what_was_done(const Finding& finding, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  if (finding.is_access) {
    text.add(finding.write ? "write" : "read");
    if (finding.width != 0) {
      text.add(" of ");
      count(text, finding.width, "byte");
    }
    return;
  }
  text.add(finding.call != nullptr ? finding.call : "?").add("()");
  if (finding.call_size != 0 && finding.call_size != ~std::size_t{0}) {
    text.add(" told ");
    count(text, finding.call_size, "byte");
  }
}

void thread(std::uint32_t id, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 32> room;
  const std::string_view name = sys::name_of_thread(static_cast<pid_t>(id), room);
  text.add("thread ").number(id);
  if (name.empty()) {
    text.add(" (ended)");
  } else {
    text.add(" \"").add(name).add("\"");
  }
}

void frames(const Account& account, std::size_t stack, const Frames& all, Text& text) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (all.count == 0) text.add("    no stack was recorded\n");
  for (std::size_t i = 0; i < all.count; ++i) {
    const Place place = place_of(all.addresses[i]);
    text.add("    #").number(i).pad_to(9);
    const std::string_view symbol = account.symbols.of(stack, i);
    if (!symbol.empty()) text.add(symbol).add("  ");
    text.add("[").add(place.module.empty() ? "?" : place.module).add("+");
    text.hex(place.offset).add("]\n");
  }
}

void depth(const Recursion& recursion, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  text.add("  ").add(recursion.depth_is_exact ? "" : "about ").number(recursion.depth);
  const std::size_t period = recursion.cycle.period;
  if (period == 0) {
    text.add(" frames, no recursion found; the innermost:\n");
  } else if (period == 1) {
    text.add(" frames of one function that calls itself:\n");
  } else {
    text.add(" frames of ").number(period).add(" functions that take turns:\n");
  }
}

void json_frames(const Account& account, std::size_t stack, const Frames& all, Text& text) noexcept
    PAGETRAP_SIGNAL_SAFE {
  text.add("[");
  for (std::size_t i = 0; i < all.count; ++i) {
    const Place place = place_of(all.addresses[i]);
    text.add(i == 0 ? "" : ",").add("{\"module\":").quoted(place.module).add(",\"offset\":");
    text.number(place.offset).add(",\"symbol\":").quoted(account.symbols.of(stack, i)).add("}");
  }
  text.add("]");
}

void json_event(const Account& account, std::size_t stack, const Frames& all, std::uint32_t who,
                Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 32> room;
  text.add("{\"thread\":").number(who).add(",\"name\":");
  text.quoted(sys::name_of_thread(static_cast<pid_t>(who), room)).add(",\"stack\":");
  json_frames(account, stack, all, text);
  text.add("}");
}

}  // namespace

std::string_view name_of(Problem problem) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::array<std::string_view, 10> kNames{
      "overflow",    "underflow",    "use-after-free", "wild-access", "overwritten",
      "double-free", "invalid-free", "wrong-function", "wrong-size",  "stack-overflow"};
  return kNames[static_cast<std::size_t>(problem)];
}

std::string_view name_of(Family family) noexcept PAGETRAP_SIGNAL_SAFE {
  constexpr std::array<std::string_view, 4> kNames{"malloc", "operator new", "operator new[]",
                                                   "memory_resource"};
  return kNames[static_cast<std::size_t>(family)];
}

void write_headline(const Finding& finding, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  text.add("pagetrap: guard: ").add(title(finding.problem)).add(": ");
  what_was_done(finding, text);
  text.add(" at ").hex(number(finding.address));
  where(finding, text);
  if (finding.problem == Problem::wrong_function)
    text.add(", which ").add(name_of(finding.object_family)).add(" allocated");
  text.add("\n");
}

void write_stacks(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  const Finding& finding = *account.finding;
  text.add(finding.problem == Problem::overwritten ? "  found by " : "  by ");
  thread(static_cast<std::uint32_t>(sys::thread_id()), text);
  text.add(", process ").number(static_cast<std::uint64_t>(sys::process_id())).add("\n");
  if (account.recursion != nullptr) depth(*account.recursion, text);
  frames(account, 0, account.here, text);
  if (account.recursion != nullptr && account.allocated.count != 0) {
    text.add("  which had called, innermost first:\n");
    frames(account, 1, account.allocated, text);
  }
  if (!finding.has_object) return;
  text.add("  the block [").hex(number(finding.object)).add(", ");
  text.hex(number(finding.object) + finding.object_size).add(") was allocated by ");
  text.add(name_of(finding.object_family)).add(" in ");
  thread(finding.allocated_by, text);
  text.add("\n");
  frames(account, 1, account.allocated, text);
  if (!finding.object_freed || finding.freed_at == 0) return;
  text.add("  and freed in ");
  thread(finding.freed_by, text);
  text.add("\n");
  frames(account, 2, account.freed, text);
}

void write_json(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  const Finding& finding = *account.finding;
  text.add("{\"schema\":\"pagetrap-guard/1\",\"problem\":").quoted(name_of(finding.problem));
  text.add(",\"process\":").number(static_cast<std::uint64_t>(sys::process_id()));
  text.add(",\"address\":").number(number(finding.address));
  if (finding.is_access) {
    text.add(",\"access\":").quoted(finding.write ? "write" : "read");
    if (finding.width != 0) text.add(",\"width\":").number(finding.width);
  }
  if (finding.call != nullptr) text.add(",\"call\":").quoted(finding.call);
  Text& by = text.add(",\"by\":");
  json_event(account, 0, account.here, static_cast<std::uint32_t>(sys::thread_id()), by);
  if (account.recursion != nullptr) {
    const WatchedStack& stack = *finding.used_up->stack;
    text.add(",\"stack\":{\"low\":").number(stack.low).add(",\"high\":").number(stack.high);
    text.add(",\"frames\":").number(account.recursion->depth).add(",\"functions\":");
    text.number(account.recursion->cycle.period).add(",\"called\":");
    json_frames(account, 1, account.allocated, text);
    text.add("}");
  }
  if (finding.has_object) {
    text.add(",\"block\":{\"address\":").number(number(finding.object)).add(",\"size\":");
    text.number(finding.object_size).add(",\"family\":").quoted(name_of(finding.object_family));
    text.add(",\"allocated\":");
    json_event(account, 1, account.allocated, finding.allocated_by, text);
    if (finding.object_freed) {
      text.add(",\"freed\":");
      json_event(account, 2, account.freed, finding.freed_by, text);
    }
    text.add("}");
  }
  text.add("}\n");
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

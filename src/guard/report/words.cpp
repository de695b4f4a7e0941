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
  text.unsigned_decimal(how_many).text(" ").text(what).text(how_many == 1 ? "" : "s");
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
    text.text(", below a stack of ").unsigned_decimal((stack.high - stack.low) >> 10).text(" KiB");
    return;
  }
  if (!finding.has_object) {
    text.text(", near no block");
    return;
  }
  const std::uintptr_t at = number(finding.address);
  const std::uintptr_t object = number(finding.object);
  const std::string_view of = finding.object_freed ? "-byte block that was freed" : "-byte block";
  text.text(", ");
  if (at < object) {
    count(text, object - at, "byte");
    text.text(" before a ");
  } else if (at >= object + finding.object_size) {
    count(text, at - object - finding.object_size + 1, "byte");
    text.text(" after a ");
  } else if (at == object) {
    text.text("at the start of a ");
  } else {
    count(text, at - object, "byte");
    text.text(" into a ");
  }
  text.unsigned_decimal(finding.object_size).text(of);
}

void what_was_done(const Finding& finding, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  if (finding.is_access) {
    text.text(finding.write ? "write" : "read");
    if (finding.width != 0) {
      text.text(" of ");
      count(text, finding.width, "byte");
    }
    return;
  }
  text.text(finding.call != nullptr ? finding.call : "?").text("()");
  if (finding.call_size != 0 && finding.call_size != ~std::size_t{0}) {
    text.text(" told ");
    count(text, finding.call_size, "byte");
  }
}

void thread(std::uint32_t id, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 32> room;
  const std::string_view name = sys::name_of_thread(static_cast<pid_t>(id), room);
  text.text("thread ").unsigned_decimal(id);
  if (name.empty()) {
    text.text(" (ended)");
  } else {
    text.text(" \"").text(name).text("\"");
  }
}

void frames(const Account& account, std::size_t stack, const Frames& all, Text& text) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (all.count == 0) text.text("    no stack was recorded\n");
  for (std::size_t i = 0; i < all.count; ++i) {
    const Place place = place_of(all.addresses[i]);
    text.text("    #").unsigned_decimal(i).pad_to(9);
    const std::string_view symbol = account.symbols.of(stack, i);
    if (!symbol.empty()) text.text(symbol).text("  ");
    text.text("[").text(place.module.empty() ? "?" : place.module).text("+");
    text.hex(place.offset).text("]\n");
  }
}

void depth(const Recursion& recursion, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  text.text("  ").text(recursion.depth_is_exact ? "" : "about ").unsigned_decimal(recursion.depth);
  const std::size_t period = recursion.cycle.period;
  if (period == 0) {
    text.text(" frames, no recursion found; the innermost:\n");
  } else if (period == 1) {
    text.text(" frames of one function that calls itself:\n");
  } else {
    text.text(" frames of ").unsigned_decimal(period).text(" functions that take turns:\n");
  }
}

void json_frames(const Account& account, std::size_t stack, const Frames& all, Text& text) noexcept
    PAGETRAP_SIGNAL_SAFE {
  text.text("[");
  for (std::size_t i = 0; i < all.count; ++i) {
    const Place place = place_of(all.addresses[i]);
    text.text(i == 0 ? "" : ",").text("{\"module\":").quoted(place.module).text(",\"offset\":");
    text.unsigned_decimal(place.offset)
        .text(",\"symbol\":")
        .quoted(account.symbols.of(stack, i))
        .text("}");
  }
  text.text("]");
}

void json_event(const Account& account, std::size_t stack, const Frames& all, std::uint32_t who,
                Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 32> room;
  text.text("{\"thread\":").unsigned_decimal(who).text(",\"name\":");
  text.quoted(sys::name_of_thread(static_cast<pid_t>(who), room)).text(",\"stack\":");
  json_frames(account, stack, all, text);
  text.text("}");
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
  text.text("pagetrap: guard: ").text(title(finding.problem)).text(": ");
  what_was_done(finding, text);
  text.text(" at ").hex(number(finding.address));
  where(finding, text);
  if (finding.problem == Problem::wrong_function)
    text.text(", which ").text(name_of(finding.object_family)).text(" allocated");
  text.text("\n");
}

void write_stacks(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  const Finding& finding = *account.finding;
  text.text(finding.problem == Problem::overwritten ? "  found by " : "  by ");
  thread(static_cast<std::uint32_t>(sys::thread_id()), text);
  text.text(", process ")
      .unsigned_decimal(static_cast<std::uint64_t>(sys::process_id()))
      .text("\n");
  if (account.recursion != nullptr) depth(*account.recursion, text);
  frames(account, 0, account.here, text);
  if (account.recursion != nullptr && account.allocated.count != 0) {
    text.text("  which had called, innermost first:\n");
    frames(account, 1, account.allocated, text);
  }
  if (!finding.has_object) return;
  text.text("  the block [").hex(number(finding.object)).text(", ");
  text.hex(number(finding.object) + finding.object_size).text(") was allocated by ");
  text.text(name_of(finding.object_family)).text(" in ");
  thread(finding.allocated_by, text);
  text.text("\n");
  frames(account, 1, account.allocated, text);
  if (!finding.object_freed || finding.freed_at == 0) return;
  text.text("  and freed in ");
  thread(finding.freed_by, text);
  text.text("\n");
  frames(account, 2, account.freed, text);
}

void write_json(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE {
  const Finding& finding = *account.finding;
  text.text("{\"schema\":\"pagetrap-guard/1\",\"problem\":").quoted(name_of(finding.problem));
  text.text(",\"process\":").unsigned_decimal(static_cast<std::uint64_t>(sys::process_id()));
  text.text(",\"address\":").unsigned_decimal(number(finding.address));
  if (finding.is_access) {
    text.text(",\"access\":").quoted(finding.write ? "write" : "read");
    if (finding.width != 0) text.text(",\"width\":").unsigned_decimal(finding.width);
  }
  if (finding.call != nullptr) text.text(",\"call\":").quoted(finding.call);
  Text& by = text.text(",\"by\":");
  json_event(account, 0, account.here, static_cast<std::uint32_t>(sys::thread_id()), by);
  if (account.recursion != nullptr) {
    const WatchedStack& stack = *finding.used_up->stack;
    text.text(",\"stack\":{\"low\":")
        .unsigned_decimal(stack.low)
        .text(",\"high\":")
        .unsigned_decimal(stack.high);
    text.text(",\"frames\":").unsigned_decimal(account.recursion->depth).text(",\"functions\":");
    text.unsigned_decimal(account.recursion->cycle.period).text(",\"called\":");
    json_frames(account, 1, account.allocated, text);
    text.text("}");
  }
  if (finding.has_object) {
    text.text(",\"block\":{\"address\":")
        .unsigned_decimal(number(finding.object))
        .text(",\"size\":");
    text.unsigned_decimal(finding.object_size)
        .text(",\"family\":")
        .quoted(name_of(finding.object_family));
    text.text(",\"allocated\":");
    json_event(account, 1, account.allocated, finding.allocated_by, text);
    if (finding.object_freed) {
      text.text(",\"freed\":");
      json_event(account, 2, account.freed, finding.freed_by, text);
    }
    text.text("}");
  }
  text.text("}\n");
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

#include "guard/settings.hpp"

#include <array>
#include <cstdlib>
#include <string_view>

#include "sys/process_names.hpp"

namespace pagetrap::preload {
namespace {

constinit std::array<char, 512 * 1024> environment{};

/// Unsigned decimal; false: it is none.
bool number(std::string_view text, std::uint64_t& value) noexcept {
  value = 0;
  if (text.empty() || text.size() > 18) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return true;
}

template <class Value>
struct Named {
  std::string_view name;
  Value value;
};

template <class Value, std::size_t N>
bool choose(const Named<Value> (&choices)[N], std::string_view text, Value& chosen) noexcept {
  for (const auto& [name, value] : choices) {
    if (name != text) continue;
    chosen = value;
    return true;
  }
  return false;
}

constexpr std::size_t kSampledSlots = std::size_t{1} << 20;
constexpr std::size_t kHotBytes = std::size_t{64} << 20;

bool strength(std::string_view text, guard::HeapOptions& heap) noexcept {
  if (text == "page") return true;
  if (text == "page+cold") {
    heap.hot_bytes = kHotBytes;
    return true;
  }
  if (text == "alias") {
    heap.strength = guard::Strength::alias;
    return true;
  }
  if (text != "sample") return false;
  heap.one_in = 1000;
  heap.quarantine_slots = kSampledSlots;
  heap.side = guard::Side::random;
  heap.mechanism = guard::Mechanism::best;
  return true;
}

bool set(std::string_view name, const char* value, Settings& settings) noexcept {
  const std::string_view text(value);
  std::uint64_t count = 0;
  if (name.empty()) return strength(text, settings.heap);
  if (name == "_SIDE")
    return choose<guard::Side>({{"right", guard::Side::right},
                                {"left", guard::Side::left},
                                {"random", guard::Side::random}},
                               text, settings.heap.side);
  if (name == "_MECHANISM")
    return choose<guard::Mechanism>({{"best", guard::Mechanism::best},
                                     {"userfaultfd", guard::Mechanism::userfaultfd},
                                     {"markers", guard::Mechanism::markers},
                                     {"mprotect", guard::Mechanism::mprotect}},
                                    text, settings.heap.mechanism);
  if (name == "_REVOKE")
    return choose<guard::Revocation>({{"at-once", guard::Revocation::at_once},
                                      {"batched", guard::Revocation::batched},
                                      {"lazy", guard::Revocation::lazy}},
                                     text, settings.heap.revocation);
  if (name == "_REPORT") settings.report.text_file = value;
  if (name == "_JSON") settings.report.json_file = value;
  if (name == "_SYMBOLS") settings.report.symboliser = value;
  if (name == "_DEBUGGER") settings.report.debugger = value;
  if (name == "_REPORT" || name == "_JSON" || name == "_SYMBOLS" || name == "_DEBUGGER")
    return true;
  if (!number(text, count)) return false;
  if (name == "_ALIGN") {
    settings.heap.least_alignment = count;
    return count == 1 || count == 2 || count == 4 || count == 8 || count == 16;
  }
  if (name == "_HOT" && settings.heap.hot_bytes != 0) settings.heap.hot_bytes = count;
  if (name == "_RATE" && settings.heap.one_in > 1)
    settings.heap.one_in = static_cast<std::uint32_t>(count);
  if (name == "_CANARY") settings.heap.canary_bytes = count;
  if (name == "_REPORTS") settings.report.most_reports = static_cast<unsigned>(count);
  if (name == "_CONTINUE") settings.report.go_on = count != 0;
  if (name == "_EXIT") settings.report.exit_code = static_cast<int>(count & 255);
  if (name == "_CORE") settings.report.dump_core = count != 0;
  if (name == "_STACKS") settings.heap.record_stacks = count != 0;
  if (name == "_FAMILIES") settings.check_families = count != 0;
  if (name == "_STATISTICS") settings.statistics = count != 0;
  if (name == "_SEED") settings.heap.seed = count;
  return true;
}

}  // namespace

Settings read_settings() noexcept {
  Settings settings;
  const long size =
      sys::read_file("/proc/self/environ", {environment.data(), environment.size() - 1});
  constexpr std::string_view kPrefix = "PAGETRAP_GUARD";
  const char* at = environment.data();
  const char* const end = at + (size > 0 ? size : 0);
  // The strength first: it has settings of its own, which others change.
  for (const bool others : {false, true}) {
    for (const char* word = at; word < end; word += std::string_view(word).size() + 1) {
      const std::string_view whole(word);
      const std::size_t equals = whole.find('=');
      if (equals == whole.npos || !whole.starts_with(kPrefix)) continue;
      const std::string_view name = whole.substr(kPrefix.size(), equals - kPrefix.size());
      if (name.empty() == others) continue;
      if (!set(name, word + equals + 1, settings)) settings.wrong = word;
    }
  }
  return settings;
}

}  // namespace pagetrap::preload

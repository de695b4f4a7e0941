// Does `pagetrap doctor` predict what the kernel does?
//
// Usage: kernels_predictions SERIES USER FACTS DOCTOR_JSON [SUITE_LOG]
//
// Compared are: what the oracle (facts.cpp) saw against what that kernel series is known for; each
// feature that doctor lists against the oracle; the mechanism that doctor names for each primitive
// against what follows from the facts; and the backends that doctor calls available against those
// whose conformance tests passed. SERIES is "6.1", "6.12", or "any" for a kernel of which nothing
// is known beforehand. Prints only what is wrong, and a line or two of summary.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Facts = std::map<std::string, bool>;
int g_wrong = 0;
int g_compared = 0;

void expect(bool holds, const std::string& sentence) {
  ++g_compared;
  if (holds) return;
  ++g_wrong;
  std::printf("  wrong: %s\n", sentence.c_str());
}

std::string words(bool available) { return available ? "available" : "not available"; }

/// Empty if the oracle did not come to its end.
Facts read_facts(const char* path) {
  Facts facts;
  bool complete = false;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream parts(line);
    std::string word;
    std::string name;
    std::string answer;
    parts >> word >> name >> answer;
    if (word == "fact") facts[name] = answer == "yes";
    if (word == "facts" && name == "done") complete = true;
  }
  return complete ? facts : Facts{};
}

/// What Debian's kernels of a series are known for, for root. These are facts of history: if one
/// is not found, the guest is not what this lane takes it for.
struct Known {
  std::string_view series;
  const char* fact;
  bool holds;
};
constexpr Known kKnown[] = {
    {"6.1", "pkey", true},
    {"6.1", "uffd", true},
    {"6.1", "uffd.wp", true},
    {"6.1", "uffd.wp_unpopulated", false},
    {"6.1", "uffd.wp_async", false},
    {"6.1", "pagemap_scan", false},
    {"6.1", "uffd.move", false},
    {"6.1", "guard_markers", false},
    {"6.1", "mseal", false},
    {"6.12", "pkey", true},
    {"6.12", "uffd", true},
    {"6.12", "uffd.wp", true},
    {"6.12", "uffd.wp_unpopulated", true},
    {"6.12", "uffd.wp_async", true},
    {"6.12", "pagemap_scan", true},
    {"6.12", "uffd.move", true},
    {"6.12", "guard_markers", false},
    {"6.12", "mseal", true},
};

/// Where doctor's words for a mechanism contain `words`, it relies on all of `facts`; where they do
/// not, one of the facts is missing.
struct Mechanism {
  std::string_view primitive;
  std::string_view words;
  std::vector<const char*> facts;
};
const Mechanism kMechanisms[] = {
    {"DIRTY", "WP_ASYNC", {"uffd.wp_async", "pagemap_scan"}},
    {"guard", "MADV_GUARD_INSTALL", {"guard_markers"}},
    {"freeze", "protection key", {"pkey"}},
    {"TRAP", "uffd-inline", {"uffd.wp"}},
};

/// Primitives that doctor must report as served wherever all of these facts hold.
struct Served {
  std::string_view primitive;
  std::vector<const char*> facts;
};
const Served kServed[] = {
    {"TRAP", {}},         {"PROT1", {}},
    {"PROTN", {}},        {"UNPROT", {}},
    {"DIRTY", {}},        {"MAP2", {}},
    {"guard", {}},        {"freeze", {}},
    {"window", {"pkey"}}, {"lift", {"mremap_dontunmap", "uffd.event_remap"}},
};

bool holds(const Facts& facts, const char* name) {
  const auto found = facts.find(name);
  return found != facts.end() && found->second;
}

/// Features and facts have the same names. A feature that nobody tries here is wrong as well: it
/// would be believed for ever.
void compare_features(const nlohmann::json& doctor, const Facts& facts) {
  for (const auto& feature : doctor.at("features")) {
    const auto id = feature.at("id").get<std::string>();
    const bool told = feature.at("available").get<bool>();
    const auto seen = facts.find(id);
    if (seen == facts.end()) {
      expect(false, "facts.cpp does not try the feature " + id);
    } else {
      expect(told == seen->second,
             id + ": doctor says " + words(told) + ", tried: " + words(seen->second));
    }
  }
}

bool all_hold(const Facts& facts, const std::vector<const char*>& names) {
  return std::all_of(names.begin(), names.end(),
                     [&](const char* name) { return holds(facts, name); });
}

void compare_mechanisms(const nlohmann::json& doctor, const Facts& facts) {
  for (const auto& primitive : doctor.at("primitives")) {
    const auto id = primitive.at("id").get<std::string>();
    const auto mechanism = primitive.at("mechanism").get<std::string>();
    for (const Served& rule : kServed) {
      if (rule.primitive != id || !all_hold(facts, rule.facts)) continue;
      expect(primitive.at("served").get<bool>(),
             id + " should be served, and: " + primitive.at("problem").get<std::string>());
    }
    for (const Mechanism& rule : kMechanisms) {
      if (rule.primitive != id) continue;
      const bool possible = all_hold(facts, rule.facts);
      const bool used = mechanism.find(rule.words) != std::string::npos;
      expect(used == possible, id + " is said to be served by \"" + mechanism + "\", and " +
                                   std::string(rule.words) + " is " + words(possible));
    }
  }
}

/// doctor tries its own predictions too; it must have found no contradiction.
void compare_trials(const nlohmann::json& doctor) {
  for (const auto& contradiction : doctor.at("contradictions")) {
    expect(false, "doctor contradicts itself: " + contradiction.get<std::string>());
  }
  for (const auto& call : doctor.at("system_calls")) {
    expect(call.at("as_predicted").get<bool>(), "system call not as predicted: " + call.dump());
  }
}

/// The backends that doctor calls available are those whose tests passed. `suite` is the guest's
/// log: lines "@@ passed USER TEST SECONDS", with the backend in the name of the test.
void compare_backends(const nlohmann::json& doctor, const char* suite, const std::string& user) {
  std::vector<std::string> passed;
  std::ifstream file(suite);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("@@ passed " + user + " ", 0) == 0) passed.push_back(line);
  }
  if (passed.empty()) return;  // the suite did not run; the lane says so itself
  std::string summary;
  for (const auto& backend : doctor.at("backends")) {
    auto name = backend.at("name").get<std::string>();
    std::replace(name.begin(), name.end(), '-', '_');  // GoogleTest's names have no hyphens
    const auto count = std::count_if(passed.begin(), passed.end(), [&](const std::string& line) {
      return line.find(name) != std::string::npos;
    });
    const bool told = backend.at("available").get<bool>();
    expect(told == (count > 0), "backend " + name + ": doctor says " + words(told) + ", and " +
                                    std::to_string(count) + " of its tests passed");
    summary += " " + name + " " + std::to_string(count);
  }
  std::printf("  tests passed by backend:%s\n", summary.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 5 && argc != 6) {
    std::fputs("usage: kernels_predictions SERIES USER FACTS DOCTOR_JSON [SUITE_LOG]\n", stderr);
    return 2;
  }
  const std::string series = argv[1];
  const std::string user = argv[2];
  const Facts facts = read_facts(argv[3]);
  expect(!facts.empty(), "the oracle did not come to its end");
  for (const Known& known : kKnown) {
    if (known.series != series || facts.empty()) continue;
    const auto seen = facts.find(known.fact);
    expect(seen != facts.end() && seen->second == known.holds,
           std::string(known.fact) + " should be " + words(known.holds) + " on " + series);
  }
  std::ifstream file(argv[4]);
  const auto doctor = nlohmann::json::parse(file, nullptr, false);
  expect(!doctor.is_discarded(), "doctor --json printed no JSON");
  if (!doctor.is_discarded()) {
    if (!facts.empty()) {
      compare_features(doctor, facts);
      compare_mechanisms(doctor, facts);
    }
    compare_trials(doctor);
    if (argc == 6) compare_backends(doctor, argv[5], user);
  }
  std::printf("predictions on %s as %s: %d compared, %d wrong\n", series.c_str(), user.c_str(),
              g_compared, g_wrong);
  return g_wrong == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "kernels_predictions: %s\n", error.what());
  return 1;
}

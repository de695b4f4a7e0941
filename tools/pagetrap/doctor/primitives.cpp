// Which mechanism serves each primitive here, why, and at what cost.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "../measure/primitives.hpp"
#include "examination.hpp"

namespace pagetrap::tool {
namespace {

constexpr Budget kBudget{100};

const char* trap_means(BackendId id) {
  switch (id) {
    case BackendId::uffd_inline:
      return "userfaultfd, SIGBUS in the faulting thread";
    case BackendId::uffd_thread:
      return "userfaultfd, read by a handler thread";
    case BackendId::mprotect:
    case BackendId::pkey:
      return "SIGSEGV in the faulting thread";
    case BackendId::best:
    case BackendId::null:
      break;
  }
  return "none";
}

const char* protect_means(BackendId id) {
  switch (id) {
    case BackendId::uffd_inline:
    case BackendId::uffd_thread:
      return "UFFDIO_WRITEPROTECT";
    case BackendId::mprotect:
      return "mprotect(2)";
    case BackendId::pkey:
      return "the thread's protection-key register";
    case BackendId::best:
    case BackendId::null:
      break;
  }
  return "none";
}

/// Why `chosen` and none that is preferred to it.
std::string why_backend(BackendId chosen) {
  const char* const forced = std::getenv("PAGETRAP_BACKEND");
  if (forced != nullptr && *forced != '\0') {
    return std::string("PAGETRAP_BACKEND=") + forced + " says so";
  }
  std::string passed_over;
  for (const Backend& backend : backends()) {
    if (backend.id == chosen) break;
    passed_over += passed_over.empty() ? "; not " : ", ";
    passed_over += backend.name;
    passed_over += backend.available ? " (it lacks what was asked)" : " (not available)";
  }
  return std::string("first in order of preference that reports writes to single pages") +
         passed_over;
}

/// Why the mechanism that a feature brings, or its fallback.
std::string why_feature(std::string_view id) {
  for (const Feature& feature : features()) {
    if (feature.id != id) continue;
    if (feature.available) return std::string(feature.id) + " is available";
    return std::string(feature.id) + " is missing; it needs " + feature.remedy;
  }
  return {};
}

PrimitiveFinding finding(std::string id, std::string mechanism, std::string why,
                         const Measured& measured) {
  PrimitiveFinding result;
  result.id = std::move(id);
  result.mechanism = std::move(mechanism);
  result.why = std::move(why);
  result.problem = measured.problem.view();
  result.served = result.problem.empty();
  if (result.served) result.costs.assign(measured.begin(), measured.end());
  return result;
}

/// Only the figures called `names`.
PrimitiveFinding with_costs(PrimitiveFinding result, std::initializer_list<const char*> names) {
  std::vector<Figure> wanted;
  for (const char* const name : names) {
    for (const Figure& cost : result.costs) {
      if (cost.what.view() == name) wanted.push_back(cost);
    }
  }
  result.costs = std::move(wanted);
  return result;
}

void add_fault_primitives(std::vector<PrimitiveFinding>& findings) {
  const auto measured_trap =
      measure_apart([](Measured& out) { measure_trap(BackendId::best, kBudget, out); });
  const auto measured_many =
      measure_apart([](Measured& out) { measure_protect_many(BackendId::best, kBudget, out); });
  const BackendId used = backend_named(measured_trap.mechanism.view()).value_or(BackendId::null);
  const std::string served_by = std::string(name(used)) + ": ";
  findings.push_back(
      with_costs(finding("TRAP", served_by + trap_means(used), why_backend(used), measured_trap),
                 {kTrap, kCycle}));
  findings.push_back(with_costs(finding("PROT1", served_by + protect_means(used),
                                        "the backend that serves TRAP", measured_trap),
                                {kProtectOne}));
  findings.push_back(with_costs(finding("PROTN", served_by + protect_means(used),
                                        "one call for any number of pages", measured_many),
                                {kProtectMany, "protect, per call"}));
  findings.push_back(with_costs(finding("UNPROT", served_by + protect_means(used),
                                        "the backend that serves TRAP", measured_trap),
                                {kUnprotect}));
}

void add_dirty(std::vector<PrimitiveFinding>& findings) {
  const auto measured = measure_apart([](Measured& out) { measure_dirty(kBudget, out); });
  const bool traps = measured.mechanism.view() == "traps";
  findings.push_back(finding(
      "DIRTY",
      traps ? "write-protect traps that mark a table"
            : "userfaultfd WP_ASYNC: the kernel marks, PAGEMAP_SCAN finds",
      traps ? why_feature("uffd.wp_async") : "the kernel resolves the faults by itself", measured));
}

void add_whole_region_moves(std::vector<PrimitiveFinding>& findings) {
  const bool keys = protection_keys_available();
  findings.push_back(
      finding("freeze",
              keys ? "each thread loses its right to the region's protection key, by a signal"
                   : "protect() of the whole region: time grows with pages",
              keys ? "protection keys are available" : why_feature("pkey"),
              measure_apart([](Measured& out) { measure_freeze(kBudget, out); })));
  findings.push_back(finding("lift", "mremap(MREMAP_DONTUNMAP) of the page tables to a window",
                             why_feature("uffd.event_remap"),
                             measure_apart([](Measured& out) { measure_lift(kBudget, out); })));
  findings.push_back(finding("window", "the thread's own protection-key register",
                             why_feature("pkey"),
                             measure_apart([](Measured& out) { measure_window(kBudget, out); })));
}

}  // namespace

std::vector<PrimitiveFinding> examine_primitives() {
  std::vector<PrimitiveFinding> findings;
  add_fault_primitives(findings);
  add_dirty(findings);
  findings.push_back(
      finding("MAP2", "a memfd mapped twice", "works on every kernel",
              measure_apart([](Measured& out) { measure_map_twice(kBudget, out); })));
  const bool light = has_feature("guard_markers");
  findings.push_back(finding("guard",
                             light ? "MADV_GUARD_INSTALL: a mark in the page table"
                                   : "mprotect(PROT_NONE): a mapping of its own",
                             why_feature("guard_markers"),
                             measure_apart([](Measured& out) { measure_guard(kBudget, out); })));
  add_whole_region_moves(findings);
  return findings;
}

std::vector<TrapByBackend> examine_traps() {
  std::vector<TrapByBackend> traps;
  for (const Backend& backend : backends()) {
    if (!backend.available || backend.id == BackendId::null) continue;
    traps.push_back({backend.id, measure_apart([&](Measured& out) {
                       measure_trap(backend.id, kBudget, out);
                     })});
  }
  return traps;
}

}  // namespace pagetrap::tool

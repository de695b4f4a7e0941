// The examination as text.
#include <string.h>

#include <cstdio>
#include <string>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "../commands.hpp"
#include "../measure/primitives.hpp"
#include "../text/screen.hpp"
#include "examination.hpp"

namespace pagetrap::tool {
namespace {

std::string joined(const std::vector<std::string>& words, const char* none) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? none : text;
}

std::string joined(const std::vector<Setting>& settings) {
  std::vector<std::string> words;
  words.reserve(settings.size());
  for (const Setting& setting : settings) words.push_back(setting.name + " " + setting.value);
  return joined(words, "none");
}

void print_machine(const MachineFacts& machine, const UserFacts& user) {
  print_heading("Machine");
  Table table({Align::left, Align::left});
  table.add({"kernel", machine.kernel + " " + machine.architecture});
  table.add({"processor", machine.processor + ", " + std::to_string(machine.cpus) + " CPUs" +
                              (machine.hypervisor ? ", in a virtual machine" : "")});
  table.add({"memory", size_text(static_cast<double>(machine.memory_bytes)) + ", pages of " +
                           std::to_string(machine.page_bytes) + " bytes"});
  table.add({"settings", joined(machine.settings)});
  table.add({"user", (user.name.empty() ? "" : user.name + ", ") + "uid " +
                         std::to_string(user.uid) +
                         "; capabilities that matter: " + joined(user.capabilities, "none")});
  table.add({"limits", joined(user.limits)});
  table.print();
}

Cell yes_or_no(bool yes) { return yes ? Cell("yes", Style::good) : Cell("no", Style::bad); }

void print_features() {
  print_heading("Features: what was tried, and whether it worked");
  Table table({Align::left, Align::left, Align::left, Align::left});
  for (const Feature& feature : features()) {
    const char* const error = feature.error != 0 ? strerrorname_np(feature.error) : "";
    table.add({yes_or_no(feature.available), feature.id, error != nullptr ? error : "?",
               feature.purpose});
    if (feature.available) continue;
    table.add({"", "", "", Cell(std::string("remedy: ") + feature.remedy, Style::faint)});
    table.add({"", "", "", Cell(std::string("until then: ") + feature.fallback, Style::faint)});
  }
  table.print();
}

void print_backends() {
  print_heading("Backends, in order of preference");
  Table table({Align::left, Align::left, Align::left});
  for (const Backend& backend : backends()) {
    table.add({yes_or_no(backend.available), backend.name, backend.mechanism});
    if (backend.available) continue;
    table.add({"", "", Cell(std::string("because: ") + backend.reason, Style::faint)});
    table.add({"", "", Cell(std::string("remedy: ") + backend.remedy, Style::faint)});
  }
  table.print();
}

void print_primitives(const std::vector<PrimitiveFinding>& primitives) {
  print_heading("Primitives: what serves each one here, and what it costs (medians)");
  Table table({Align::left, Align::left});
  for (const PrimitiveFinding& primitive : primitives) {
    table.add(
        {Cell(primitive.id, primitive.served ? Style::good : Style::bad), primitive.mechanism});
    if (primitive.served) {
      std::string costs;
      for (const Figure& cost : primitive.costs) {
        costs += (costs.empty() ? "" : "; ") + std::string(cost.what.view()) + " " +
                 duration_text(cost.nanoseconds);
      }
      table.add({"", Cell(costs, Style::bold)});
    } else {
      table.add({"", Cell("not served: " + primitive.problem, Style::bad)});
    }
    if (!primitive.why.empty()) table.add({"", Cell("why: " + primitive.why, Style::faint)});
  }
  table.print();
}

void print_traps(const std::vector<TrapByBackend>& traps) {
  print_heading("TRAP by backend");
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::left});
  table.add({"", "protect", "trap", "unprotect", "all three", ""});
  for (const TrapByBackend& trap : traps) {
    const bool whole = !capabilities(trap.backend, Backing::anonymous).per_page;
    const Measured& measured = trap.measured;
    if (!measured.problem.view().empty()) {
      table.add({name(trap.backend), "-", "-", "-", "-",
                 Cell(std::string(measured.problem.view()), Style::bad)});
      continue;
    }
    table.add({name(trap.backend), duration_text(measured[kProtectOne]),
               duration_text(measured[kTrap]), duration_text(measured[kUnprotect]),
               duration_text(measured[kCycle]),
               whole ? "the whole region of 64 pages" : "one page"});
  }
  table.print();
}

void print_calls(const std::vector<CallTrial>& calls) {
  print_heading("System calls that touch protected memory");
  print_paragraph(
      "\"served\": the fault reaches the handler and the call goes on. \"EFAULT\": the call fails; "
      "touch the page first (Region::touch). Each was tried in a process of its own.",
      2, 2, Style::faint);
  Table table({Align::left, Align::left, Align::left, Align::left});
  for (const CallTrial& call : calls) {
    std::string verdict = call.as_predicted()
                              ? "as predicted"
                              : std::string("differs: predicted ") +
                                    call_outcome_name(call.predicted) + "; " + call.problem;
    table.add({call.subject, call.access, call_outcome_name(call.observed),
               Cell(std::move(verdict), call.as_predicted() ? Style::good : Style::bad)});
  }
  table.print();
}

void print_processes(const ProcessFinding& finding) {
  print_heading("Whole processes (run --checkpoint, restart)");
  Table table({Align::left, Align::left});
  const auto verdict = [](const std::string& problem, const std::string& words) {
    return problem.empty() ? Cell(words, Style::good) : Cell("no: " + problem, Style::bad);
  };
  table.add({"saved", verdict(finding.problem, "yes, one that stood still for " +
                                                   duration_text(finding.frozen_us * 1e3))});
  if (finding.saved) {
    table.add({"written pages", finding.tracked
                                    ? "tracked: images after the first are increments"
                                    : "not tracked (Linux 6.7 does): all images are whole"});
    table.add({"restarted",
               verdict(finding.restart_problem, finding.own_namespace
                                                    ? "yes, with its id in a namespace of its own"
                                                    : "yes, with its id")});
    table.add({"lazily", verdict(finding.lazy_problem, "yes")});
  }
  table.print();
}

}  // namespace

void print_examination(const Examination& examination) {
  std::printf("%s\n", styled("pagetrap " + version_text() + " doctor", Style::bold).c_str());
  print_machine(examination.machine, examination.user);
  print_features();
  print_backends();
  print_primitives(examination.primitives);
  print_traps(examination.traps);
  print_calls(examination.calls);
  print_processes(examination.processes);

  const auto contradictions = examination.contradictions();
  print_heading("Verdict");
  if (contradictions.empty()) {
    print_paragraph("Everything that counts as available works as predicted.", 2, 2, Style::good);
    return;
  }
  for (const std::string& contradiction : contradictions) {
    print_paragraph(contradiction, 2, 4, Style::bad);
  }
  print_paragraph(
      "This is a bug in pagetrap or a kernel it does not know. Please report it with the output of "
      "`pagetrap doctor --json`.",
      2, 2);
}

}  // namespace pagetrap::tool

// The primitives' cost on this machine beside the machines of 1991.
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>

#include <pagetrap/vm/vm.hpp>

#include "../measure/primitives.hpp"
#include "../text/progress.hpp"
#include "../text/screen.hpp"
#include "chapter.hpp"

namespace pagetrap::tool {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// A machine of 1991. Microseconds.
struct OldMachine {
  const char* name;
  double add;
  double trap;
  bool trap_confirmed;
  double appel1;
  double appel2;
  const char* map_twice;
};

// SOURCE Appel & Li, ASPLOS 1991, table of primitives; the paper's own text was not at hand. The
// DECstation's TRAP is confirmed by what later papers quote. All else is recalled from course notes
// and not re-verified, and shown as such. The SPARCstation's ADD follows from "20 000 ADDs".
constexpr std::array<OldMachine, 2> kOldMachines{{
    {"DECstation 3100, 1991", 0.062, 210, true, 393, 344, "no*"},
    {"SPARCstation, 1991", 1008.0 / 20'000, 230, false, 1008, 909, "?"},
}};

/// What we measure of one backend. Nanoseconds.
struct Today {
  const char* backend = "-";
  double trap = kUnknown;
  double appel1 = kUnknown;
  double appel2 = kUnknown;
  std::string problem;
};

Today measure_today(BackendId id, Budget budget) {
  const Measured trap = measure_apart([&](Measured& out) { measure_trap(id, budget, out); });
  const Measured cycles = measure_apart([&](Measured& out) { measure_appel_li(id, budget, out); });
  Today today;
  if (const auto used = backend_named(trap.mechanism.view())) today.backend = name(*used);
  today.trap = trap[kTrap];
  today.appel1 = cycles[kAppel1];
  today.appel2 = cycles[kAppel2];
  today.problem = trap.problem.view().empty() ? cycles.problem.view() : trap.problem.view();
  return today;
}

std::string microseconds(double amount) {
  if (!std::isfinite(amount)) return "-";
  std::array<char, 32> text{};
  if (amount < 0.1) {
    std::snprintf(text.data(), text.size(), "%.3g", amount);
  } else {
    std::snprintf(text.data(), text.size(), "%.*f", amount < 100 ? 2 : 0, amount);
  }
  return text.data();
}

std::string adds(double amount, double add) {
  return std::isfinite(amount) ? grouped(amount / add) : "-";
}

/// Two cells: microseconds and ADDs. `mark` follows what is not verified.
void add_pair(std::vector<Cell>& row, double amount_us, double add_us, const char* mark) {
  row.emplace_back(microseconds(amount_us) + mark);
  row.emplace_back(adds(amount_us, add_us) + mark);
}

std::vector<Cell> row_of(const Today& today, double add_us) {
  std::vector<Cell> row{Cell(std::string("here, ") + today.backend, Style::bold)};
  row.emplace_back(microseconds(add_us) + " ");
  for (const double nanoseconds : {today.trap, today.appel1, today.appel2}) {
    add_pair(row, nanoseconds / 1000, add_us, " ");
  }
  row.emplace_back("yes");
  return row;
}

std::vector<Cell> row_of(const OldMachine& old) {
  std::vector<Cell> row{Cell(old.name)};
  row.emplace_back(microseconds(old.add) + "*");
  add_pair(row, old.trap, old.add, old.trap_confirmed ? " " : "*");
  add_pair(row, old.appel1, old.add, "*");
  add_pair(row, old.appel2, old.add, "*");
  row.emplace_back(old.map_twice);
  return row;
}

void print_table(const Today& best, const Today& classic, double add_us) {
  std::vector<Align> columns{Align::left};
  columns.resize(9, Align::right);
  Table table(columns);
  table.add({"", "ADD ", "TRAP ", "", "TRAP+PROT1", "+UNPROT ", "TRAP+PROTN", "+UNPROT ", "MAP2"});
  table.add({"", "us ", "us ", "ADDs ", "us ", "ADDs ", "us ", "ADDs ", ""});
  table.add(row_of(best, add_us));
  table.add(row_of(classic, add_us));
  for (const OldMachine& old : kOldMachines) table.add(row_of(old));
  table.print();
}

}  // namespace

bool tell_then_and_now(const TourPace& pace) {
  const Budget budget{pace.quick ? 200 : 1500};
  Today best;
  Today classic;
  double add_us = 0;
  {
    Progress progress;
    progress.show("measuring the primitives ...");
    add_us = measure_add() / 1000;
    best = measure_today(BackendId::best, budget);
    classic = measure_today(BackendId::mprotect, budget);
  }
  print_heading("What they cost, then and now");
  print_paragraph(
      "TRAP is a fault that reaches the handler and returns. TRAP+PROT1+UNPROT: touch a protected "
      "page; its handler protects another page and opens this one. TRAP+PROTN+UNPROT: protect 100 "
      "pages in one call, then touch each. Per page, and in additions, since processors have grown "
      "so much faster.");
  std::printf("\n");
  print_table(best, classic, add_us);
  print_paragraph(
      "The DECstation ran Ultrix 4.1, the SPARCstation SunOS 4.1. * recalled from course notes on "
      "the paper, not re-verified; the DECstation's TRAP is confirmed second-hand. Mach 2.5 on the "
      "DECstation: 937 to 1203 us* for the two cycles.",
      2, 4, Style::faint);
  if (!best.problem.empty() || !classic.problem.empty()) {
    print_paragraph("not measured: " + best.problem + " " + classic.problem, 2, 4, Style::bad);
    return false;
  }
  const double now_adds = best.appel1 / 1000 / add_us;
  const double then_adds = kOldMachines[0].appel1 / kOldMachines[0].add;
  std::printf("\n");
  print_paragraph("A cycle that cost " + grouped(then_adds) + "* ADDs on the DECstation costs " +
                  grouped(now_adds) + " here with the best backend, " +
                  grouped(classic.appel1 / 1000 / add_us) +
                  " with mprotect: in time it became faster, in additions " +
                  (now_adds > then_adds ? "dearer." : "cheaper."));
  return true;
}

}  // namespace pagetrap::tool

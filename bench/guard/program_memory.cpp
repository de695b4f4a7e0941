// guard.*.memory: the most memory that a program had at any time, page tables included, with guards
// and with glibc's malloc. Resident sizes do not tell it: a frame counts once for each of its
// mappings there.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>

#include <pagetrap/core/units.hpp>

#include "guard/program_set.hpp"
#include "guard/questions.hpp"
#include "harness/report.hpp"
#include "rivals/memory_group.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kUnlimited = std::size_t{1} << 50;

/// For who may not make control groups: looked at so often, the most that was seen.
class ProportionalPeak {
 public:
  void watch(pid_t process) {
    siginfo_t ended{};
    while (waitid(P_PID, static_cast<id_t>(process), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid == 0) {
      const std::string folder = "/proc/" + std::to_string(process);
      peak_ = std::max(peak_, kibibytes(folder + "/smaps_rollup", "Pss:") +
                                  kibibytes(folder + "/status", "VmPTE:"));
      usleep(2000);
    }
  }
  [[nodiscard]] double bytes() const { return static_cast<double>(peak_) * 1024; }

 private:
  static std::uint64_t kibibytes(const std::string& file, const std::string& name) {
    std::ifstream lines(file);
    std::uint64_t value = 0;
    for (std::string word; lines >> word;)
      if (word == name && lines >> value) return value;
    return 0;
  }
  std::uint64_t peak_ = 0;
};

double peak_bytes(const Words& words, bool grouped, Report& report) {
  if (grouped) {
    const rivals::MemoryGroup group(kUnlimited);
    report.check(group.there(), "a control group less than before");
    const Finished finished = run_to_end(words, report, [&] { return group.join(); });
    require_success(finished, words, report);
    return static_cast<double>(group.peak_bytes());
  }
  ProportionalPeak peak;
  const Finished finished =
      run_to_end(words, report, {}, [&](pid_t process) { peak.watch(process); });
  require_success(finished, words, report);
  return peak.bytes();
}

/// A program that takes less than is allowed on top counts as taking what glibc's does, and not as
/// nothing.
void measure_memory(const Words& options, double allowed_bytes, double share, const Effort& effort,
                    Report& report) {
  const ProgramSet set(share, report);
  report.parameter("share_of_work", share);
  const bool grouped = rivals::MemoryGroup(kUnlimited).there();
  report.parameter("measure", grouped ? "peak of a memory control group"
                                      : "largest Pss and page tables seen, every 2 ms");
  report.parameter("allowed_bytes", allowed_bytes);
  for (int pair = 0; pair < (effort.quick ? 1 : 3); ++pair) {
    double ours = 0;
    double rival = 0;
    for (const Subject& subject : set.subjects()) {
      const double plain = peak_bytes(subject.words, grouped, report);
      const double guarded = peak_bytes(under_guard(options, subject.words), grouped, report);
      if (pair == 0) report.parameter(subject.name + "_bytes", guarded);
      if (pair == 0) report.parameter(subject.name + "_glibc_bytes", plain);
      ours += std::log(std::max(guarded - allowed_bytes, plain));
      rival += std::log(plain);
    }
    const auto programs = static_cast<double>(set.subjects().size());
    report.pair(std::exp(ours / programs), std::exp(rival / programs));
  }
}

void measure_alias(const Effort& effort, Report& report) {
  measure_memory({"--guard=alias"}, 8e6, 1, effort, report);
}

void measure_page_cold(const Effort& effort, Report& report) {
  // Less than by default, so that these programs have blocks to pack.
  const std::size_t hot = effort.quick ? 8_MiB : 32_MiB;
  const Words options{"--guard=page+cold", "--guard-hot", std::to_string(hot)};
  if (run_to_end(under_guard(options, {"/bin/true"}), report).status != 0)
    report.skip("this command has no strength page+cold");
  measure_memory(options, static_cast<double>(hot), effort.quick ? 0.25 : 1, effort, report);
}

}  // namespace

void add_guarded_memory(Questions& questions) {
  const auto add = [&](const char* id, const char* ours, double target,
                       void (*function)(const Effort&, Report&)) {
    questions.push_back({.id = id,
                         .asks = "the most memory of programs that allocate a lot",
                         .ours = ours,
                         .rival = "glibc",
                         .unit = "bytes",
                         .target = target,
                         .measure = function,
                         .scheduling = Scheduling::fair_group});
  };
  add("guard.alias.memory", "alias, less 8 MB", 1.5, measure_alias);
  add("guard.pagecold.memory", "page+cold, less what is hot", 2.0, measure_page_cold);
}

}  // namespace pagetrap::bench

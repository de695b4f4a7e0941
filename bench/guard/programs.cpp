// guard.*.cpu: processor time of unmodified programs under guards, against glibc's malloc and
// against other tools that find such mistakes. A pair is the geometric mean over the programs, each
// run once on either side.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "guard/program_set.hpp"
#include "guard/questions.hpp"
#include "harness/pairs.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

double cpu_ns(const Words& words, Report& report, const std::function<bool()>& before = {}) {
  const Finished finished = run_to_end(words, report, before);
  require_success(finished, words, report);
  return finished.cpu_ns;
}

template <const char* const* Options>
void measure(const Effort& effort, Report& report) {
  Words options;
  for (const char* const* option = Options; *option != nullptr; ++option)
    options.emplace_back(*option);
  const double share = effort.quick ? 0.25 : 1;
  report.parameter("share_of_work", share);
  const ProgramSet set(share, report);
  interleave(
      with_fewer_pairs(effort, effort.quick ? 2 : 5), report,
      [&] {
        return mean_over(set, [&](const Subject& subject) {
          return cpu_ns(under_guard(options, subject.words), report);
        });
      },
      [&] {
        return mean_over(set,
                         [&](const Subject& subject) { return cpu_ns(subject.words, report); });
      });
}

constexpr const char* kPage[] = {"--guard=page", nullptr};
constexpr const char* kAlias[] = {"--guard=alias", nullptr};
constexpr const char* kAliasLazy[] = {"--guard=alias", "--guard-revoke", "lazy", nullptr};
constexpr const char* kSample[] = {"--guard=sample", nullptr};

// --- tools that find such mistakes ---------------------------------------------------------------

// They take 20 to 50 times as long as malloc does: less to do, and no pair that is thrown away.
double share_of_work(const Effort& effort) { return effort.quick ? 0.02 : 0.1; }

template <class Rival>
void against(ProgramSet& set, const Effort& effort, Report& report, Rival rival) {
  for (int pair = 0; pair < (effort.quick ? 1 : 5); ++pair) {
    const double ours = mean_over(set, [&](const Subject& subject) {
      return cpu_ns(under_guard({"--guard=page"}, subject.words), report);
    });
    report.pair(ours, mean_over(set, rival));
  }
}

/// It takes two kernel mappings for each block, and some programs to their end.
std::string find_efence() {
  for (const char* const file : {"/usr/lib/libefence.so.0", "/usr/lib/libefence.so",
                                 "/usr/lib/x86_64-linux-gnu/libefence.so.0"})
    if (access(file, R_OK) == 0) return file;
  return {};
}

void measure_efence(const Effort& effort, Report& report) {
  const std::string library = find_efence();
  if (library.empty()) report.skip("electric-fence is not installed");
  ProgramSet set(share_of_work(effort), report);
  const rlim_t patience = effort.quick ? 10 : 60;
  const auto preload = [&] {
    // Not to end at malloc(0), and no line at each start.
    setenv("EF_ALLOW_MALLOC_0", "1", 1);
    setenv("EF_DISABLE_BANNER", "1", 1);
    const rlimit seconds{patience, patience};
    const rlimit no_core{0, 0};
    return setenv("LD_PRELOAD", library.c_str(), 1) == 0 && setrlimit(RLIMIT_CPU, &seconds) == 0 &&
           setrlimit(RLIMIT_CORE, &no_core) == 0;
  };
  const std::string died = set.keep_if([&](const Subject& subject) {
    return run_to_end(subject.words, report, preload).status == 0;
  });
  if (!died.empty()) report.parameter("rival_did_not_survive", died);
  if (set.subjects().empty()) report.skip("Electric Fence survives none of the programs here");
  std::string survived;
  for (const Subject& subject : set.subjects())
    survived += (survived.empty() ? "" : ", ") + subject.name;
  report.parameter("programs", survived);
  report.parameter("share_of_work", share_of_work(effort));
  against(set, effort, report,
          [&](const Subject& subject) { return cpu_ns(subject.words, report, preload); });
}

void measure_valgrind(const Effort& effort, Report& report) {
  const std::string valgrind = find_program("valgrind");
  if (valgrind.empty()) report.skip("valgrind is not installed");
  ProgramSet set(share_of_work(effort), report);
  report.parameter("share_of_work", share_of_work(effort));
  against(set, effort, report, [&](const Subject& subject) {
    Words words{valgrind, "--tool=memcheck", "--quiet", "--error-exitcode=0"};
    words.insert(words.end(), subject.words.begin(), subject.words.end());
    return cpu_ns(words, report);
  });
}

}  // namespace

void add_guarded_programs(Questions& questions) {
  const auto add = [&](const char* id, const char* ours, const char* rival, double target,
                       void (*function)(const Effort&, Report&), const char* bound) {
    questions.push_back({.id = id,
                         .asks = "processor time of programs that allocate a lot",
                         .ours = ours,
                         .rival = rival,
                         .unit = "ns",
                         .target = target,
                         .measure = function,
                         .scheduling = Scheduling::fair_group,
                         .bound = bound});
  };
  constexpr const char* kCall =
      "free() takes the page away: a system call of 1.5 to 2 us (guard.page.pair), where these "
      "programs allocate every 0.1 to 0.9 us";
  add("guard.page.cpu", "page", "glibc", 3.0, measure<kPage>, kCall);
  add("guard.page.cpu.efence", "page", "Electric Fence", 0.15, measure_efence, kCall);
  add("guard.page.cpu.valgrind", "page", "valgrind memcheck", 0.15, measure_valgrind, kCall);
  add("guard.alias.cpu", "alias, at once", "glibc", 2.0, measure<kAlias>, kCall);
  add("guard.alias_lazy.cpu", "alias, lazy", "glibc", 1.25, measure<kAliasLazy>,
      "two stacks of 30 to 90 ns for each block, and a line of the cache that it shares with none");
  add("guard.sample.cpu", "sample, 1 in 1000", "glibc", 1.02, measure<kSample>,
      "a block that is sampled costs 8 us, and the command that starts the program 2 ms");
}

}  // namespace pagetrap::bench

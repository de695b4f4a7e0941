#include "compress/program_sides.hpp"

#include <pagetrap/core/units.hpp>

#include "compress/sides.hpp"
#include "harness/clock.hpp"
#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "rivals/memory_group.hpp"
#include "rivals/zram_swap.hpp"

namespace pagetrap::bench {

namespace {

/// The thread that does the program's work shares a CPU with whoever asks for it, so that asking
/// wakes no other CPU; threads that are not the program's own are free to use all. Null: it has
/// ended.
std::unique_ptr<Subject> start_pinned(const Start& start, const Words& prefix,
                                      const std::function<bool()>& before) {
  unpin();
  std::unique_ptr<Subject> subject = start(prefix, before);
  pin_to_cpu(0);
  if (subject) subject->program().pin_to_cpu(0);
  return subject;
}

/// Until a dictionary has been learnt, and pages have found their places. zram has nothing to
/// learn, but its pool takes as long to come to rest.
double warm_up_seconds(const Effort& effort) { return effort.quick ? 2.5 : 6; }

/// False: it is gone.
bool warm_up(const Effort& effort, Subject& subject) {
  const double end = now_ns() + warm_up_seconds(effort) * 1e9;
  double ignored = 0;
  while (now_ns() < end)
    if (!subject.measure(ignored)) return false;
  return true;
}

constexpr std::size_t kAmple = 8_GiB;

Words under_budget(std::size_t bytes, const char* kind) {
  return {own_command(), "run", "--delivery", "signals", "--memory", std::to_string(bytes) + kind,
          "--"};
}

/// A side that must not end.
std::unique_ptr<Subject> start_or_fail(const Effort& effort, Report& report, const Start& start,
                                       const Words& prefix, const std::function<bool()>& before) {
  std::unique_ptr<Subject> subject = start_pinned(start, prefix, before);
  report.check(subject != nullptr, "a program ended while it was filled");
  report.check(warm_up(effort, *subject), "a program ended at work");
  return subject;
}

double measure_or_fail(Report& report, Subject& subject) {
  double cost = 0;
  report.check(subject.measure(cost), "a program ended at work");
  return cost;
}

double share_of(std::size_t bytes, std::size_t all) {
  return static_cast<double>(bytes) / static_cast<double>(all);
}

/// The program under zram, and in a group that the kernel counts.
class ZramProgram {
 public:
  ZramProgram(Report& report, double share, const Start& start) : swap_(kAmple), group_(kAmple) {
    if (!swap_.there()) report.skip(swap_.reason());
    if (!group_.there()) report.skip(group_.reason());
    group_.prefer_swap();
    subject_ = start_pinned(start, {}, [this] { return group_.join(); });
    report.check(subject_ != nullptr, "the rival ended while it was filled");
    unlimited_bytes_ = group_.used_bytes();
    limit_ = static_cast<std::size_t>(share * static_cast<double>(unlimited_bytes_));
    report.check(group_.set_limit(limit_), "the kernel cannot swap out as much as the limit asks");
  }
  [[nodiscard]] std::size_t unlimited_bytes() const { return unlimited_bytes_; }
  /// The limit, and the pool.
  [[nodiscard]] std::size_t total_bytes() const { return limit_ + swap_.pool_bytes(); }
  [[nodiscard]] Subject& subject() const { return *subject_; }

 private:
  rivals::ZramSwap swap_;
  rivals::MemoryGroup group_;
  std::size_t unlimited_bytes_ = 0;
  std::size_t limit_ = 0;
  std::unique_ptr<Subject> subject_;
};

/// The kernel kills some of them in their first seconds.
std::unique_ptr<ZramProgram> start_until_one_lives(const Effort& effort, Report& report,
                                                   double share, const Start& start) {
  const double end = now_ns() + (effort.quick ? 15e9 : 120e9);
  int killed = 0;
  for (; killed == 0 || now_ns() < end; ++killed) {
    auto rival = std::make_unique<ZramProgram>(report, share, start);
    if (!warm_up(effort, rival->subject())) continue;
    report.parameter("rival_killed_before", killed);
    return rival;
  }
  report.skip(std::to_string(killed) + " times " + kKilled);
}

}  // namespace

void require_run(Report& report) {
  Words words{"/bin/sh", "-c", "exec \"$@\" 2>&1", "sh"};
  for (const std::string& word : under_budget(64_MiB, "")) words.push_back(word);
  words.emplace_back("/bin/true");
  Program shell(words);
  std::string said;
  shell.hear(said);
  if (shell.wait() != 0) report.skip(said.empty() ? "`pagetrap run` does not work here" : said);
}

void against_zram(const Effort& effort, Report& report, double share, const Start& start) {
  require_run(report);
  const std::unique_ptr<ZramProgram> living = start_until_one_lives(effort, report, share, start);
  const ZramProgram& rival = *living;
  const std::size_t all = rival.unlimited_bytes();
  const std::size_t total = rival.total_bytes();
  report.parameter("unlimited_bytes", static_cast<double>(all));
  report.parameter("rival_total_share", share_of(total, all));
  // The budget is not for all that a process has: stacks, bookkeeping, what the C library
  // allocates. How much that is, is seen when it has run, and it is run again with so much less.
  constexpr int kMostStarts = 4;
  const rivals::MemoryGroup group(kAmple);
  if (!group.there()) report.skip(group.reason());
  std::unique_ptr<Subject> ours;
  std::size_t budget = total - total / 20;
  for (int starts = 1;; ++starts) {
    ours = start_or_fail(effort, report, start, under_budget(budget, "=total"),
                         [&group] { return group.join(); });
    const std::size_t used = group.used_bytes();
    if (used <= total + total / 100 || starts == kMostStarts) break;
    budget -= used - total;
    ours.reset();
  }
  report.parameter("our_budget_share", share_of(budget, all));
  report.parameter("our_total_share", share_of(group.used_bytes(), all));
  interleave_with_mortal(
      effort, report, [&] { return measure_or_fail(report, *ours); },
      [&](double& cost) { return rival.subject().measure(cost); });
  report.parameter("our_total_share_after", share_of(group.used_bytes(), all));
  report.parameter("rival_total_share_after", share_of(rival.total_bytes(), all));
}

void against_unlimited(const Effort& effort, Report& report, double share, const Start& start) {
  require_run(report);
  const auto rival = start_or_fail(effort, report, start, {}, {});
  const std::size_t all = rival->program().memory_bytes();
  report.parameter("unlimited_bytes", static_cast<double>(all));
  const auto budget = static_cast<std::size_t>(share * static_cast<double>(all));
  const auto ours = start_or_fail(effort, report, start, under_budget(budget, ""), {});
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return measure_or_fail(report, *ours); },
      [&] { return measure_or_fail(report, *rival); });
  report.parameter("our_total_share", share_of(ours->program().memory_bytes(), all));
}

}  // namespace pagetrap::bench

#include "compress/program_sides.hpp"

#include <unistd.h>

#include <array>

#include <pagetrap/core/units.hpp>

#include "compress/sides.hpp"
#include "harness/pairs.hpp"
#include "rivals/memory_group.hpp"
#include "rivals/zram_swap.hpp"

namespace pagetrap::bench {

namespace {

constexpr int kWarmUpBatches = 3;
constexpr std::size_t kAmple = 8_GiB;

/// The command that runs this: benchmarks are linked into it.
std::string own_command() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

Words under_budget(std::size_t bytes, const char* kind) {
  return {own_command(), "run", "--memory", std::to_string(bytes) + kind, "--"};
}

/// A side that must not end.
std::unique_ptr<Subject> start_or_fail(Report& report, const Start& start, const Words& prefix,
                                       const std::function<bool()>& before) {
  std::unique_ptr<Subject> subject = start(prefix, before);
  report.check(subject != nullptr, "a program ended while it was filled");
  double ignored = 0;
  for (int i = 0; i < kWarmUpBatches; ++i)
    report.check(subject->measure(ignored), "a program ended at work");
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
    subject_ = start({}, [this] { return group_.join(); });
    report.check(subject_ != nullptr, "the rival ended while it was filled");
    unlimited_bytes_ = group_.used_bytes();
    limit_ = static_cast<std::size_t>(share * static_cast<double>(unlimited_bytes_));
    report.check(group_.set_limit(limit_), "the kernel cannot swap out as much as the limit asks");
  }
  [[nodiscard]] std::size_t unlimited_bytes() const { return unlimited_bytes_; }
  /// The limit, and the pool.
  [[nodiscard]] std::size_t total_bytes() const { return limit_ + swap_.pool_bytes(); }
  bool measure(double& cost) { return subject_->measure(cost); }

 private:
  rivals::ZramSwap swap_;
  rivals::MemoryGroup group_;
  std::size_t unlimited_bytes_ = 0;
  std::size_t limit_ = 0;
  std::unique_ptr<Subject> subject_;
};

}  // namespace

void require_run(Report& report) {
  const Words probe = under_budget(64_MiB, "");
  Program shell({"/bin/sh", "-c", "exec \"$@\" /bin/true 2>&1", "sh", probe[0], probe[1], probe[2],
                 probe[3], probe[4]});
  std::string said;
  shell.hear(said);
  if (shell.wait() != 0) report.skip(said.empty() ? "`pagetrap run` does not work here" : said);
}

void against_zram(const Effort& effort, Report& report, double share, const Start& start) {
  require_run(report);
  ZramProgram rival(report, share, start);
  double ignored = 0;
  for (int i = 0; i < kWarmUpBatches; ++i)
    if (!rival.measure(ignored)) report.skip(kKilled);
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
    ours = start_or_fail(report, start, under_budget(budget, "=total"),
                         [&group] { return group.join(); });
    const std::size_t used = group.used_bytes();
    report.parameter("our_total_share", share_of(used, all));
    report.parameter("our_budget_share", share_of(budget, all));
    if (used <= total + total / 100 || starts == kMostStarts) break;
    budget -= used - total;
    ours.reset();
  }
  interleave_with_mortal(
      effort, report, [&] { return measure_or_fail(report, *ours); },
      [&](double& cost) { return rival.measure(cost); });
  report.parameter("our_total_share_after", share_of(group.used_bytes(), all));
  report.parameter("rival_total_share_after", share_of(rival.total_bytes(), all));
}

void against_unlimited(const Effort& effort, Report& report, double share, const Start& start) {
  require_run(report);
  const auto rival = start_or_fail(report, start, {}, {});
  const std::size_t all = rival->program().memory_bytes();
  report.parameter("unlimited_bytes", static_cast<double>(all));
  const auto budget = static_cast<std::size_t>(share * static_cast<double>(all));
  const auto ours = start_or_fail(report, start, under_budget(budget, ""), {});
  interleave(
      with_fewer_pairs(effort, 5), report, [&] { return measure_or_fail(report, *ours); },
      [&] { return measure_or_fail(report, *rival); });
  report.parameter("our_total_share", share_of(ours->program().memory_bytes(), all));
}

}  // namespace pagetrap::bench

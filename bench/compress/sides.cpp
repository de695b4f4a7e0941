#include "compress/sides.hpp"

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {

CompressedSide::CompressedSide(Report& report, std::size_t size_bytes, std::size_t budget_bytes,
                               std::size_t limit_bytes) {
  unpin();  // the helper may use all CPUs
  auto source = compress::CompressedSource::create(size_bytes);
  report.check(static_cast<bool>(source), "CompressedSource::create");
  source_ = std::move(*source);
  auto pager = pager::Pager::create({.budget_bytes = budget_bytes});
  report.check(static_cast<bool>(pager), "Pager::create");
  pager_ = std::move(*pager);
  pager::RegionOptions options;
  options.limit_bytes = limit_bytes;
  auto region = pager::Region::create(*pager_, size_bytes, *source_, options);
  report.check(static_cast<bool>(region), "pager::Region::create");
  region_.emplace(std::move(*region));
  pin_to_cpu(0);
}

void CompressedSide::warm_up(const std::function<void()>& some) const {
  constexpr double kLongest = 20e9;
  const double begin = now_ns();
  do {
    some();
  } while (!source_->statistics().lessons_over && now_ns() - begin < kLongest);
  some();
}

void CompressedSide::describe(Report& report, std::size_t size_bytes) const {
  const auto seen = source_->statistics();
  const auto region = region_->statistics();
  const auto all = static_cast<double>(size_bytes);
  const auto resident = static_cast<double>(bytes(Pages{region.resident_pages}));
  report.parameter("our_resident_share", resident / all);
  report.parameter("our_total_share",
                   (resident + static_cast<double>(seen.store.memory_bytes())) / all);
  report.parameter("our_blob_share", static_cast<double>(seen.store.blob_bytes) / all);
  report.parameter("our_pool_share", static_cast<double>(seen.store.pool_bytes) / all);
  report.parameter(
      "our_codec_share",
      static_cast<double>(seen.store.dictionary_bytes + seen.store.workspace_bytes) / all);
  report.parameter("our_retained_share",
                   static_cast<double>(bytes(Pages{seen.retained_pages})) / all);
  report.parameter("our_prepared_share",
                   static_cast<double>(seen.prepared) / static_cast<double>(seen.written));
  report.parameter("our_unchanged_share",
                   static_cast<double>(seen.unchanged) / static_cast<double>(seen.written));
  report.parameter("our_retain_sixteenths", seen.retain_sixteenths);
  report.parameter("our_dictionary", seen.learnt ? "learnt" : "none");
}

ZramSide::ZramSide(Report& report, std::size_t size_bytes, double share, const Make& make)
    : limit_(static_cast<std::size_t>(share * static_cast<double>(size_bytes))),
      swap_(4 * size_bytes),
      group_(8 * size_bytes) {
  if (!swap_.there()) report.skip(swap_.reason());
  if (!group_.there()) report.skip(group_.reason());
  group_.prefer_swap();
  peer_.emplace(report, [&]() -> Peer::Batch {
    if (!group_.join()) throw std::runtime_error("the rival cannot join its control group");
    auto batch = make();
    if (!group_.set_limit(limit_))
      throw std::runtime_error("the kernel cannot swap out as much as the limit asks");
    return batch;
  });
}

bool ZramSide::measure(double& cost) { return peer_->try_measure(cost); }

void interleave_with_mortal(const Effort& effort, Report& report,
                            const std::function<double()>& ours,
                            const std::function<bool(double& cost)>& rival) {
  bool alive = true;
  interleave(
      with_fewer_pairs(effort, 5), report, ours,
      [&] {
        double cost = 0;
        alive = alive && rival(cost);
        return cost;
      },
      [&] { return alive; });
  if (alive) return;
  report.parameter("rival_killed_after_pairs", static_cast<double>(report.pairs()));
  if (report.pairs() == 0) report.skip(kKilled);
}

void interleave_with_zram(const Effort& effort, Report& report, const std::function<double()>& ours,
                          ZramSide& rival) {
  interleave_with_mortal(effort, report, ours, [&](double& cost) { return rival.measure(cost); });
}

}  // namespace pagetrap::bench

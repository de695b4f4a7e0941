// The campaign in short: random graphs and their shadows, on every supply, by one thread or many,
// with a collector's thread or in a deterministic order. PAGETRAP_GC_SECONDS makes each last
// longer, PAGETRAP_GC_SEED repeats one.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "gc/shadow.hpp"
#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

using Clock = std::chrono::steady_clock;

double seconds() {
  const char* const asked = std::getenv("PAGETRAP_GC_SECONDS");
  return asked != nullptr ? std::atof(asked) : 0.5;
}

std::uint64_t seed() {
  if (const char* const asked = std::getenv("PAGETRAP_GC_SEED"))
    return std::strtoull(asked, nullptr, 10);
  return std::random_device{}();
}

struct Way {
  gc::PageSupply supply;
  gc::Barriers barriers;
  unsigned threads;
  unsigned collectors;
  bool deterministic = false;  // every allocation may flip, or do a step of the cycle
};

class Shadows : public testing::TestWithParam<Way> {};

/// Worlds that threads take in turns.
template <class World>
class Exchange {
 public:
  void put(std::unique_ptr<World> world) {
    const std::lock_guard guard(lock_);
    worlds_.push_back(std::move(world));
  }
  std::unique_ptr<World> take() {
    const std::lock_guard guard(lock_);
    auto world = std::move(worlds_.front());
    worlds_.erase(worlds_.begin());
    return world;
  }

 private:
  std::mutex lock_;
  std::vector<std::unique_ptr<World>> worlds_;
};

template <class World>
void compare(const Way& way) {
  const std::uint64_t first_seed = seed();
  std::printf("PAGETRAP_GC_SEED=%llu\n", static_cast<unsigned long long>(first_seed));
  gc::Options options;
  options.supply = way.supply;
  options.barriers = way.barriers;
  options.nursery_bytes = 256_KiB;
  options.limit_bytes = 512_MiB;
  options.growth = 0.5;
  options.growth_bytes = 1_MiB;
  options.collectors = way.collectors;
  options.stress_seed = way.deterministic ? first_seed | 1 : 0;
  gc::Heap heap(options);
  Exchange<World> exchange;
  {
    gc::Mutator here(heap);
    for (unsigned i = 0; i <= way.threads; ++i)
      exchange.put(std::make_unique<World>(heap, first_seed + i));
  }
  const auto end = Clock::now() + std::chrono::duration<double>(seconds());
  std::atomic<std::uint64_t> changes{0};
  const auto work = [&] {
    gc::Mutator here(heap);
    while (Clock::now() < end && !testing::Test::HasFatalFailure()) {
      auto world = exchange.take();
      world->change(20000);
      world->check();
      changes += 20000;
      exchange.put(std::move(world));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < way.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  {
    gc::Mutator here(heap);
    for (unsigned i = 0; i <= way.threads; ++i) {
      auto world = exchange.take();
      heap.collect(i % 2 == 0);
      world->check();
    }
  }
  const gc::Statistics statistics = heap.statistics();
  std::printf("%llu changes, %llu cycles (%llu full), %llu traps, %llu pins\n",
              static_cast<unsigned long long>(changes),
              static_cast<unsigned long long>(statistics.cycles),
              static_cast<unsigned long long>(statistics.full_cycles),
              static_cast<unsigned long long>(statistics.traps),
              static_cast<unsigned long long>(statistics.pins));
  EXPECT_GT(statistics.cycles, 3U);
  if (way.supply != gc::PageSupply::none || has(way.barriers, gc::Barriers::checked_loads)) {
    EXPECT_GT(statistics.traps, 0U);
  }
}

TEST_P(Shadows, AreTheSame) {
  switch (GetParam().barriers) {
    case gc::Barriers::pages:
      return compare<World<gc::ref>>(GetParam());
    case gc::Barriers::checked_loads:
      return compare<World<gc::checked_ref>>(GetParam());
    case gc::Barriers::carded_stores:
      return compare<World<gc::carded_ref>>(GetParam());
    case gc::Barriers::both:
      return compare<World<gc::instructed_ref>>(GetParam());
  }
}

std::vector<Way> ways() {
  std::vector<Way> all;
  const auto add = [&](gc::PageSupply supply, gc::Barriers barriers) {
    for (const unsigned threads : {1U, 2U, 4U, 8U}) all.push_back({supply, barriers, threads, 1});
    if (supply != gc::PageSupply::none && barriers == gc::Barriers::pages)
      all.push_back({supply, barriers, 2, 3});
    all.push_back({supply, barriers, 1, 0, true});
    all.push_back({supply, barriers, 3, 0, true});
  };
  for (const auto supply : tested_supplies()) {
    add(supply, gc::Barriers::pages);
    add(supply, gc::Barriers::carded_stores);
  }
  if (SANITIZED_THREADS == 0) {
    add(gc::PageSupply::uffd_minor, gc::Barriers::checked_loads);
    add(gc::PageSupply::none, gc::Barriers::both);
  }
  return all;
}

std::string way_name(const testing::TestParamInfo<Way>& which) {
  const std::array<std::string, 4> twins = {"", "checked", "carded", "instructed"};
  const Way& way = which.param;
  return test_name(way.supply) + twins.at(static_cast<std::size_t>(way.barriers)) +
         std::to_string(way.threads) +
         (way.collectors > 1 ? "by" + std::to_string(way.collectors) : "") +
         (way.deterministic ? "deterministic" : "");
}

INSTANTIATE_TEST_SUITE_P(, Shadows, testing::ValuesIn(ways()), way_name);

}  // namespace
}  // namespace pagetrap

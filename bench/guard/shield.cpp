// guard.shield: make sure that an object stays while it is read.
#include <pagetrap/guard/owner.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "guard/questions.hpp"
#include "harness/clock.hpp"
#include "harness/cpus.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kRounds = 200'000;

struct Object {
  std::uint64_t value = 1;
};

/// A thread that does nothing: without one std::shared_ptr counts without atomic instructions.
class Company {
 public:
  Company() : thread_([this] { wait(); }) {}
  ~Company() {
    {
      const std::lock_guard guard(lock_);
      done_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  Company(const Company&) = delete;
  Company& operator=(const Company&) = delete;

 private:
  void wait() {
    std::unique_lock guard(lock_);
    changed_.wait(guard, [this] { return done_; });
  }
  std::mutex lock_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

[[gnu::noinline]] std::uint64_t by_shield(const guard::Owner<Object>& owner) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kRounds; ++i) {
    const guard::Shield<Object> shield(owner);
    sum += shield->value;
    asm volatile("" : "+r"(sum) : : "memory");
  }
  return sum;
}

[[gnu::noinline]] std::uint64_t by_count(const std::shared_ptr<Object>& owner) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kRounds; ++i) {
    const std::shared_ptr<Object> copy = owner;
    sum += copy->value;
    asm volatile("" : "+r"(sum) : : "memory");
  }
  return sum;
}

void measure(const Effort& effort, Report& report) {
  const Company company;
  pin_to_cpu(0);
  auto arena = guard::Arena::reserve();
  if (!arena) report.skip(describe(arena.error()));
  const auto ours = guard::Owner<Object>::make(*arena);
  const auto theirs = std::make_shared<Object>();
  const auto time = [&](const auto& owner, auto&& loop) {
    std::uint64_t sum = 0;
    const double elapsed = time_ns([&] { sum = loop(owner); });
    report.check(sum == kRounds, "the object was not read each time");
    return elapsed / static_cast<double>(kRounds);
  };
  interleave(
      effort, report, [&] { return time(ours, by_shield); },
      [&] { return time(theirs, by_count); });
}

}  // namespace

void add_shield(Questions& questions) {
  questions.push_back({.id = "guard.shield",
                       .asks = "keep an object from being destroyed while it is read",
                       .ours = "Shield, enter and leave",
                       .rival = "std::shared_ptr, copy and destroy, with a second thread",
                       .unit = "ns",
                       .target = 0.2,
                       .measure = measure});
}

}  // namespace pagetrap::bench

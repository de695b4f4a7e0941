// Moves of whole regions: freeze, lift, window.
#include <atomic>
#include <cerrno>
#include <thread>

#include <pagetrap/vm/vm.hpp>

#include "primitives.hpp"

namespace pagetrap::tool {
namespace {

constexpr std::size_t kPopulated = 16_MiB;

void store_to(std::byte* address) { *reinterpret_cast<volatile char*>(address) = 1; }

void populate(Region& region) {
  for (std::size_t at = 0; at < kPopulated; at += page_size()) store_to(region.data() + at);
}

/// A thread that writes to the region all the time.
class Writer {
 public:
  explicit Writer(Region& region) : thread_([this, &region] { write(region); }) {}
  ~Writer() {
    stop_.store(true);
    thread_.join();
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

 private:
  void write(Region& region) {
    for (std::size_t at = 0; !stop_.load(std::memory_order_relaxed);
         at = (at + page_size()) % kPopulated) {
      store_to(region.data() + at);
    }
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace

void measure_freeze(Budget budget, Measured& out) {
  auto region = Region::create(kPopulated, {.freezable = true}).value();
  out.mechanism.set(protection_keys_available() ? "protection key" : "protect");
  populate(region);
  Samples freeze(budget);
  Samples thaw(budget);
  {
    const Writer writer(region);
    while (freeze.wants_more()) {
      const double begin = now_ns();
      region.freeze().value();
      const double frozen = now_ns();
      region.thaw().value();
      thaw.add(now_ns() - frozen);
      freeze.add(frozen - begin);
      std::this_thread::yield();  // on one CPU the writer would never run
    }
  }
  out.add("freeze 16 MiB, one thread writing", freeze.median());
  out.add("thaw", thaw.median());
}

void measure_lift(Budget budget, Measured& out) {
  constexpr std::size_t kSize = 1_GiB;
  auto region =
      Region::create(kSize, {.alignment = kSize, .faults = FaultKind::missing, .liftable = true})
          .value();
  out.mechanism.set(name(region.backend()));
  region.unprotect({region.data(), pages_for(kPopulated)}).value();
  populate(region);
  Samples lift(budget);
  Samples finish(budget);
  while (lift.wants_more()) {
    const double begin = now_ns();
    Lift lifted = region.lift().value();
    const double gone = now_ns();
    lifted.finish().value();
    finish.add(now_ns() - gone);
    lift.add(gone - begin);
  }
  if (region.data()[0] != std::byte{1}) {
    throw SystemError({"lift lost the contents", EPROTO, region.range()});
  }
  out.add("lift 1 GiB with 16 MiB in it", lift.median());
  out.add("finish, which puts the 16 MiB back", finish.median());
}

void measure_window(Budget budget, Measured& out) {
  const auto region = Region::create(64 * page_size(), {.freezable = true}).value();
  constexpr int kBatch = 100;
  Samples samples(budget);
  while (samples.wants_more()) {
    const double begin = now_ns();
    for (int i = 0; i < kBatch; ++i) {
      const auto window = Window::open(region);
      if (!window) throw SystemError(window.error());
    }
    samples.add((now_ns() - begin) / kBatch);
  }
  out.mechanism.set("protection key");
  out.add("open and close", samples.median());
}

}  // namespace pagetrap::tool

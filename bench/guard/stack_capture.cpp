// guard.stack_capture: 16 frames of a stack, as they are kept at every malloc and free.
#include <unwind.h>

#include <array>

#include <pagetrap/guard/backtrace.hpp>

#include "guard/questions.hpp"
#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kFrames = 16;
constexpr int kDepth = 20;

struct Taken {
  std::array<void*, kFrames> frames{};
  std::size_t count = 0;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* into) {
  auto& taken = *static_cast<Taken*>(into);
  if (taken.count == kFrames) return _URC_END_OF_STACK;
  taken.frames[taken.count++] = reinterpret_cast<void*>(_Unwind_GetIP(context));
  return _URC_NO_REASON;
}

[[gnu::noinline]] Taken by_us() {
  Taken taken;
  taken.count = guard::backtrace(taken.frames.data(), kFrames);
  return taken;
}
[[gnu::noinline]] Taken by_gcc() {
  Taken taken;
  _Unwind_Backtrace(add_frame, &taken);
  return taken;
}

template <class Work>
[[gnu::noinline]] double deep(int depth, Work& work) {
  if (depth == 0) return work();
  const double cost = deep(depth - 1, work);
  asm volatile("" ::: "memory");  // or the call would become a jump
  return cost;
}

void measure(const Effort& effort, Report& report) {
  const auto batch = [&](Taken (*take)(), int times) {
    return [&report, take, times] {
      std::size_t frames = 0;
      const double took = time_ns([&] {
        for (int i = 0; i < times; ++i) frames += take().count;
      });
      report.check(frames == kFrames * static_cast<std::size_t>(times), "a stack was too short");
      return took / times;
    };
  };
  auto ours = batch(by_us, 5000);
  auto rival = batch(by_gcc, 200);
  interleave(
      effort, report, [&] { return deep(kDepth, ours); }, [&] { return deep(kDepth, rival); });
}

}  // namespace

void add_stack_capture(Questions& questions) {
  questions.push_back({.id = "guard.stack_capture",
                       .asks = "the return addresses of 16 frames",
                       .ours = "guard::backtrace",
                       .rival = "_Unwind_Backtrace",
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure});
}

}  // namespace pagetrap::bench

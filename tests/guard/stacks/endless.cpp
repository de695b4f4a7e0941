#include "guard/stacks/endless.hpp"

namespace pagetrap {
namespace {

// No depth is; but the compiler does not know.
volatile int g_deepest = -1;

}  // namespace

// Something is left to do after each call, so that it is one.
[[gnu::noinline]] int calls_itself(int depth) {
  if (depth == g_deepest) return 0;
  volatile int here = depth;
  const int below = calls_itself(depth + 1);
  return here + below;
}

[[gnu::noinline]] int calls_itself_twice(int depth) {
  if (depth == g_deepest) return 0;
  volatile int here = depth;
  const int below =
      depth % 3 == 0 ? calls_itself_twice(depth + 1) * 2 : calls_itself_twice(depth + 1) + 1;
  return here + below;
}

[[gnu::noinline]] int first_of_three(int depth) {
  if (depth == g_deepest) return 0;
  volatile int here = depth;
  return here + second_of_three(depth + 1);
}
[[gnu::noinline]] int second_of_three(int depth) {
  volatile int here[20] = {depth};
  return here[0] + third_of_three(depth + 1);
}
[[gnu::noinline]] int third_of_three(int depth) {
  volatile int here[3] = {depth};
  return here[0] + first_of_three(depth + 1);
}

// Touches the lowest byte of each frame only.
[[gnu::noinline]] int with_frames_of_100_kilobytes(int depth) {
  if (depth == g_deepest) return 0;
  volatile char here[100'000];
  here[0] = static_cast<char>(depth);
  return with_frames_of_100_kilobytes(depth + 1) + here[0];
}

}  // namespace pagetrap

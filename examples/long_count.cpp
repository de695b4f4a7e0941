// A long computation that says itself when it should be saved: after each chapter of its work.
//
//   pagetrap run --checkpoint images -- long_count [CHAPTERS] [HOOKS]
//   ... killed ...
//   pagetrap restart images
//
// It also runs without anybody who saves it. With HOOKS (any word) it tells of every checkpoint.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <pagetrap/checkpoint/self.hpp>

namespace {

namespace checkpoint = pagetrap::checkpoint;

constexpr std::uint64_t kChapter = 200'000;  // numbers

bool is_prime(std::uint64_t number) {
  if (number < 2) return false;
  for (std::uint64_t divisor = 2; divisor * divisor <= number; ++divisor)
    if (number % divisor == 0) return false;
  return true;
}

void say(const char* words) {
  std::puts(words);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t chapters = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20;
  if (argc > 2) {
    const auto set = checkpoint::set_process_hooks(
        {[] { say("about to be saved"); }, [] { say("was saved"); }, [] { say("was restarted"); }});
    if (!set) say("nobody saves this");
  }
  std::uint64_t primes = 0;
  for (std::uint64_t chapter = 0; chapter < chapters; ++chapter) {
    for (std::uint64_t i = 0; i < kChapter; ++i) primes += is_prime(chapter * kChapter + i) ? 1 : 0;
    std::printf("chapter %llu: %llu primes\n", static_cast<unsigned long long>(chapter),
                static_cast<unsigned long long>(primes));
    std::fflush(stdout);
    // Returns here again in each process that is restarted from the image.
    const auto returned = checkpoint::checkpoint();
    if (returned && *returned == checkpoint::kAfterRestart) say("goes on from here");
  }
  say("done");
  return 0;
}

// Runs the store's fuzz target on random inputs, with any compiler: fuzz_store --seconds S --seed
// X.
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  double seconds = 3;
  std::uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string_view(argv[i]) == "--seconds") seconds = std::atof(argv[i + 1]);
    if (std::string_view(argv[i]) == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t number = 0;
  for (; std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds;
       ++number) {
    std::seed_seq sequence{seed, number};
    std::mt19937_64 random(sequence);
    std::vector<std::uint8_t> input(2 + random() % 60);
    for (std::uint8_t& byte : input) byte = static_cast<std::uint8_t>(random());
    // A crash leaves its number behind: the input follows from it.
    if (number % 1000 == 0)
      std::fprintf(stderr, "seed %" PRIu64 ", from %" PRIu64 "\n", seed, number);
    static_cast<void>(LLVMFuzzerTestOneInput(input.data(), input.size()));
  }
  std::printf("%" PRIu64 " inputs\n", number);
  return 0;
}

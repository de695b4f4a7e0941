// Mutates good images and gives them to the fuzz target, without libFuzzer: with any compiler,
// under any sanitizer, each input a function of the seed and its number. The target runs in a
// child, so that a crash or a hang is a finding with a number.
//
// Usage: fuzz_image [--seconds N] [--seed S] [--input I] [--write-seeds FOLDER] [FILE...]
//   --input I        only that one, in this process, to see it again (with the same seed)
//   --write-seeds    the good images, as a corpus for libFuzzer
//   FILE...          these inputs, as libFuzzer saves them
// Exit status: 0 nothing found, 1 a finding, 2 a bad argument.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "seeds.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace pagetrap::checkpoint::test {
namespace {

constexpr unsigned kLongestInput = 30;  // seconds; they take milliseconds

using Random = std::mt19937_64;

std::uint64_t below(Random& random, std::uint64_t n) { return n == 0 ? 0 : random() % n; }

/// A number that is likely to be at the edge of something.
std::uint64_t edge(Random& random) {
  static constexpr std::array<std::uint64_t, 12> kEdges{
      0, 1, 2, 511, 512, 4096, 65536, 0x7fffffff, 0x80000000, 0xffffffff, ~0ull >> 1, ~0ull};
  const std::uint64_t number = kEdges[below(random, kEdges.size())];
  switch (below(random, 4)) {
    case 0:
      return number + below(random, 3) - 1;
    case 1:
      return number << below(random, 64);
    case 2:
      return random() >> below(random, 64);
    default:
      return number;
  }
}

/// A place in `image` where much depends on the bytes: header, regions, index, footer.
std::size_t telling_place(Random& random, const std::vector<std::byte>& image) {
  if (image.size() < 512) return below(random, image.size());
  std::uint64_t index = 0;
  std::memcpy(&index, image.data() + image.size() - 56, sizeof index);
  switch (below(random, 8)) {
    case 0:
      return below(random, image.size());
    case 1:
    case 2:
      return below(random, 88 + 96);
    case 3:
      return image.size() - 1 - below(random, 64);
    default: {
      const std::size_t begin = std::min<std::uint64_t>(index, image.size() - 1);
      return begin + below(random, image.size() - begin);
    }
  }
}

void mutate_once(Random& random, std::vector<std::byte>& image) {
  if (image.empty()) return;
  const std::size_t at = telling_place(random, image);
  switch (below(random, 12)) {
    case 0:
      image[at] ^= std::byte{static_cast<unsigned char>(1u << below(random, 8))};
      return;
    case 1:
      image.resize(at);
      return;
    case 2: {  // something inside comes again
      const std::size_t from = telling_place(random, image);
      const std::size_t length =
          std::min({below(random, 200), image.size() - at, image.size() - from});
      std::memmove(image.data() + at, image.data() + from, length);
      return;
    }
    case 3: {
      const std::vector<std::byte> more(below(random, 5000));
      image.insert(image.begin() + static_cast<std::ptrdiff_t>(at), more.begin(), more.end());
      return;
    }
    case 4: {  // a number grows or shrinks a little
      const std::size_t aligned = at / 4 * 4;
      std::uint32_t number = 0;
      if (image.size() - aligned < sizeof number) return;
      std::memcpy(&number, image.data() + aligned, sizeof number);
      number += static_cast<std::uint32_t>(below(random, 5)) - 2;
      std::memcpy(image.data() + aligned, &number, sizeof number);
      return;
    }
    default: {
      const std::uint64_t number = edge(random);
      const std::size_t aligned = at / 4 * 4;
      const std::size_t length =
          std::min<std::size_t>(std::size_t{4} << below(random, 2), image.size() - aligned);
      std::memcpy(image.data() + aligned, &number, length);
    }
  }
}

std::vector<std::uint8_t> input_number(const std::vector<FuzzInput>& good, std::uint64_t seed,
                                       std::uint64_t number) {
  std::seed_seq sequence{seed, number};
  Random random(sequence);
  FuzzInput input = good[below(random, good.size())];
  if (below(random, 8) == 0) input.flags = 0;  // checksums as they come
  for (std::uint64_t n = 1 + below(random, 4); n != 0; --n) {
    mutate_once(random, below(random, 4) == 0 ? input.parent : input.image);
  }
  return input.bytes();
}

int run_one(const std::vector<std::uint8_t>& input) {
  // Exactly as large, so that a sanitizer sees what reads beyond.
  const std::vector<std::uint8_t> copy(input);
  return LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

/// Inputs from `first` on, until the time is over.
[[noreturn]] void run_child(const std::vector<FuzzInput>& good, std::uint64_t seed,
                            std::chrono::steady_clock::time_point end,
                            std::atomic<std::uint64_t>& number) {
  while (std::chrono::steady_clock::now() < end) {
    ::alarm(kLongestInput);
    run_one(input_number(good, seed, number));
    ++number;
  }
  std::exit(0);  // the target's folder goes
}

int run_for(unsigned seconds, std::uint64_t seed) {
  const std::vector<FuzzInput> good = seeds();
  void* const shared = ::mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  auto& number = *new (shared) std::atomic<std::uint64_t>(0);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  const pid_t child = ::fork();
  if (child == 0) run_child(good, seed, end, number);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return 2;
  const auto inputs = static_cast<unsigned long long>(number);
  if (status != 0) {
    std::fprintf(stderr, "fuzz_image: %s %d; again with: fuzz_image --seed %llu --input %llu\n",
                 WIFSIGNALED(status) ? "killed by signal" : "exit status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                 static_cast<unsigned long long>(seed), inputs);
    return 1;
  }
  std::printf("fuzz_image: %llu inputs, seed %llu, nothing found\n", inputs,
              static_cast<unsigned long long>(seed));
  return 0;
}

int write_seeds(const std::string& folder) {
  int number = 0;
  for (const FuzzInput& input : seeds()) {
    const auto bytes = input.bytes();
    std::ofstream file(folder + "/seed" + std::to_string(number++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) return 1;
  }
  return 0;
}

int run_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return 2;
  const std::vector<char> chars{std::istreambuf_iterator<char>(file), {}};
  return run_one({chars.begin(), chars.end()});
}

int main(int argc, char** argv) {
  unsigned seconds = 60;
  std::uint64_t seed = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (!option.starts_with("--")) {
      if (const int status = run_file(argv[i]); status != 0) return status;
      if (i + 1 == argc) return 0;
      continue;
    }
    if (i + 1 == argc) return 2;
    const char* const value = argv[++i];
    if (option == "--seconds") {
      seconds = static_cast<unsigned>(std::strtoul(value, nullptr, 10));
    } else if (option == "--seed") {
      seed = std::strtoull(value, nullptr, 10);
    } else if (option == "--input") {
      return run_one(input_number(seeds(), seed, std::strtoull(value, nullptr, 10)));
    } else if (option == "--write-seeds") {
      return write_seeds(value);
    } else {
      return 2;
    }
  }
  return run_for(seconds, seed);
}

}  // namespace
}  // namespace pagetrap::checkpoint::test

int main(int argc, char** argv) { return pagetrap::checkpoint::test::main(argc, argv); }

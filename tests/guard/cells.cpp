// Wrong accesses, and right ones, for the tests to run under guards. Links nothing of ours.
//
//   cells matrix FUNCTION       every cell: "cell SIDE ACCESS DISTANCE SIZE ADDRESS" a line, then
//   it cells NAME [good]           one scenario of scenarios.cpp; good: its twin without the
//   mistake
#include <malloc.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "scenarios.hpp"

namespace {

struct Function {
  const char* name;
  void* (*get)(std::size_t size);
  void (*give_back)(void* block);
};

// Not inlined, or the compiler leaves out what it can see through.
[[gnu::noinline]] void* by_malloc(std::size_t size) { return std::malloc(size); }
[[gnu::noinline]] void* by_calloc(std::size_t size) { return std::calloc(1, size); }
[[gnu::noinline]] void* by_realloc(std::size_t size) { return std::realloc(std::malloc(1), size); }
[[gnu::noinline]] void* by_memalign(std::size_t size) { return ::memalign(16, size); }
[[gnu::noinline]] void* by_new(std::size_t size) { return ::operator new(size); }
[[gnu::noinline]] void* by_new_array(std::size_t size) { return new char[size]; }
[[gnu::noinline]] void by_free(void* block) { std::free(block); }
[[gnu::noinline]] void by_delete(void* block) { ::operator delete(block); }
[[gnu::noinline]] void by_delete_array(void* block) { delete[] static_cast<char*>(block); }

constexpr std::array<Function, 6> kFunctions{{{"malloc", by_malloc, by_free},
                                              {"calloc", by_calloc, by_free},
                                              {"realloc", by_realloc, by_free},
                                              {"memalign", by_memalign, by_free},
                                              {"new", by_new, by_delete},
                                              {"new[]", by_new_array, by_delete_array}}};

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t size = 1; size <= 64; ++size) all.push_back(size);
  all.insert(all.end(), {4095, 4096, 4097, std::size_t{1} << 20});
  return all;
}

void try_cell(const Function& function, bool over, bool write, std::size_t distance,
              std::size_t size) {
  auto* const block = static_cast<volatile char*>(function.get(size));
  for (std::size_t i = 0; i < size; ++i) block[i] = static_cast<char>(i);
  volatile char* const at =
      over ? block + size + distance - 1
           : reinterpret_cast<volatile char*>(reinterpret_cast<std::uintptr_t>(block) - distance);
  std::printf("cell %s %s %zu %zu %zu\n", over ? "over" : "under", write ? "write" : "read",
              distance, size, reinterpret_cast<std::size_t>(at));
  if (write) {
    *at = 'x';
  } else {
    static_cast<void>(*at);
  }
  function.give_back(const_cast<char*>(block));
}

int matrix(const std::string& name) {
  std::array<char, 4096> buffer{};
  std::setvbuf(stdout, buffer.data(), _IOFBF, buffer.size());  // no block of its own in the middle
  // Far ones last: what they hit is let through, and may be where a later block comes to lie.
  for (const std::size_t distance : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{8},
                                     std::size_t{15}, std::size_t{16}, std::size_t{64},
                                     std::size_t{4095}, std::size_t{4096}, std::size_t{1} << 20})
    for (const Function& function : kFunctions)
      if (function.name == name)
        for (const std::size_t size : sizes())
          for (const bool over : {true, false})
            for (const bool write : {true, false}) try_cell(function, over, write, distance, size);
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) return 2;
  const std::string name = words[1];
  if (name == "matrix" && count == 3) return matrix(words[2]);
  return run_scenario(name, count == 3 && std::string(words[2]) == "good");
}

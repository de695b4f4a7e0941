// Memory that changes between one image and the next, in every way that it can.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "stage.hpp"

namespace subject {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 3000;

char* map_at(void* where, std::size_t pages) {
  const int fixed = where != nullptr ? MAP_FIXED : 0;
  void* const at = ::mmap(where, pages * kPage, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  must(at == MAP_FAILED ? -1 : 0, "mmap");
  return static_cast<char*>(at);
}

// What is at the beginning of each page: in memory, and as it should be.
struct Memory {
  char* pages = map_at(nullptr, kPages);
  std::vector<std::uint64_t> wanted = std::vector<std::uint64_t>(kPages);
  char* moved = map_at(nullptr, 50);
  std::vector<std::uint64_t> wanted_moved = std::vector<std::uint64_t>(50);

  void write(std::size_t page, std::uint64_t value) {
    std::memcpy(pages + page * kPage + 8 * (page % 500), &value, sizeof value);
    wanted[page] = value;
  }
  void change(std::uint64_t step) {
    std::mt19937_64 random(step);
    const auto place = [&](std::size_t length) { return random() % (kPages - length); };
    for (int i = 0; i < 300; ++i) write(place(1), random());
    std::size_t at = place(40);  // dropped: zero from now on
    must(::madvise(pages + at * kPage, 40 * kPage, MADV_DONTNEED), "madvise");
    for (std::size_t i = at; i < at + 40; ++i) wanted[i] = 0;
    at = place(60);  // another mapping at the same place
    must(::munmap(pages + at * kPage, 60 * kPage), "munmap");
    map_at(pages + at * kPage, 60);
    for (std::size_t i = at; i < at + 60; ++i) wanted[i] = 0;
    write(at + 7, step);
    at = place(30);  // not to be written to for a while
    must(::mprotect(pages + at * kPage, 30 * kPage, PROT_READ), "mprotect");
    at = place(30);
    must(::mprotect(pages, kPages * kPage, PROT_READ | PROT_WRITE), "mprotect");
    for (std::size_t i = at; i < at + 30; ++i) {  // zeroes that are written
      std::memset(pages + i * kPage, 0, kPage);
      wanted[i] = 0;
    }
    // Moved, and larger.
    void* const now = ::mremap(moved, wanted_moved.size() * kPage,
                               (wanted_moved.size() + 20) * kPage, MREMAP_MAYMOVE);
    must(now == MAP_FAILED ? -1 : 0, "mremap");
    moved = static_cast<char*>(now);
    wanted_moved.resize(wanted_moved.size() + 20);
    for (std::size_t i = step % 3; i < wanted_moved.size(); i += 5) {
      wanted_moved[i] = step * 1000 + i;
      std::memcpy(moved + i * kPage, &wanted_moved[i], 8);
    }
  }
  void check(Stage& stage) const {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < kPages; ++i) {
      std::uint64_t there = 0;
      std::memcpy(&there, pages + i * kPage + 8 * (i % 500), sizeof there);
      wrong += there == wanted[i] ? 0 : 1;
    }
    for (std::size_t i = 0; i < wanted_moved.size(); ++i)
      wrong += std::memcmp(moved + i * kPage, &wanted_moved[i], 8) == 0 ? 0 : 1;
    stage.expect(wrong == 0, std::to_string(wrong) + " pages");
  }
};

const Registered kIncrements("increments", [](Stage& stage) {
  Memory memory;
  stage.say("ready");
  for (std::uint64_t step = 1;; ++step) {
    if (!stage.was_told("go")) memory.change(step);
    stage.say("done." + std::to_string(step));
    while (!stage.was_told("go") && !stage.was_told("step." + std::to_string(step))) sleep_ms(1);
    if (stage.was_told("go")) break;
  }
  stage.wait_for_go();
  memory.check(stage);
});

// One thread at the first checkpoint, and many at the second.
const Registered kMore("more_threads", [](Stage& stage) {
  stage.say("ready");
  stage.wait_for("more");
  std::vector<std::thread> threads;
  for (int i = 0; i < 400; ++i)
    threads.emplace_back([&] {
      while (!stage.was_told("go")) sleep_ms(20);
    });
  stage.say("made");
  stage.wait_for_go();
  for (std::thread& each : threads) each.join();
});

}  // namespace
}  // namespace subject

// A cache whose entries are replaced while a reader holds one, and a pointer that somebody kept: it
// never shows another entry, and is reported when its page is gone.
#include <pagetrap/guard/owner.hpp>
#include <pagetrap/guard/stacks.hpp>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <thread>

namespace guard = pagetrap::guard;

struct Entry {
  std::uint64_t key;
  std::uint64_t twice;  // always 2 * key
};

int main() {
  guard::watch_stacks().value();
  guard::Arena arena = guard::Arena::reserve().value();
  auto entry = guard::Owner<Entry>::make(arena, Entry{0, 0});

  std::atomic<bool> done{false};
  std::uint64_t reads = 0;
  std::uint64_t wrong = 0;
  std::thread reader([&] {
    guard::watch_this_stack().value();
    while (!done.load(std::memory_order_relaxed)) {
      const guard::Shield<Entry> shield(entry);  // two plain stores: no lock, no count
      if (shield->twice != 2 * shield->key) ++wrong;
      ++reads;
    }
  });
  const Entry* kept = nullptr;  // what a bug would keep
  for (std::uint64_t key = 1; key <= 1'000'000; ++key) {
    auto* const next = arena.create<Entry>(Entry{key, 2 * key});
    if (key == 1) kept = next;
    entry.reset(next);
  }
  done = true;
  reader.join();

  const guard::ArenaStatistics all = arena.statistics();
  std::printf("1000000 entries, %llu reads, %llu of them wrong\n",
              static_cast<unsigned long long>(reads), static_cast<unsigned long long>(wrong));
  std::printf("%zu pages were given back, and their addresses are guards\n", all.pages_dropped);
  std::printf("the pointer that was kept is %s\n",
              arena.alive(kept) ? "alive" : "stale; now it is used:");
  std::fflush(stdout);
  return static_cast<int>(*const_cast<const volatile std::uint64_t*>(&kept->twice));
}

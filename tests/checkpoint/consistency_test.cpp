// Is an image one instant? Two proofs that do not trust the code under test.
//
// Replay: each writer performs a sequence that its seed determines, all over the heap, and counts
// its steps in the heap. The image must be what the counted steps make, each thread for itself.
// Causality: one thread counts up a word in one region, another copies what it sees there to a word
// of another region. In an image the copy is never ahead.
//
// The control leaves out what makes it true (faults wait until the last region is cut), and must
// find both broken.
#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "checkpoint/checkpointer.hpp"
#include "checkpoint/support.hpp"

namespace pagetrap::checkpoint {
namespace {

constexpr std::size_t kHeap = std::size_t{24} << 20;  // bytes in each of the two arenas
constexpr std::size_t kWords = kHeap / sizeof(std::uint64_t);

std::chrono::milliseconds time_to_run() {
  const char* const seconds = std::getenv("PAGETRAP_CONSISTENCY_SECONDS");
  return seconds != nullptr ? std::chrono::milliseconds(1000 * std::atoi(seconds))
                            : std::chrono::milliseconds(1200);
}

// The steps of one writer: step n stores n to a word of its own share of either arena.
class Steps {
 public:
  Steps(unsigned thread, unsigned threads)
      : random_(thread + 1), thread_(thread), threads_(threads) {}
  struct Step {
    unsigned arena;
    std::size_t word;
  };
  Step next() {
    const std::uint64_t drawn = random_();
    // Nine of ten in a tenth of the heap.
    std::size_t place = drawn >> 8;
    const std::size_t mine = kWords / 2 / threads_;
    place %= (drawn & 0xff) < 230 ? mine / 10 : mine;
    // The second half of each arena is for what follows below.
    return {static_cast<unsigned>(drawn >> 7 & 1), place * threads_ + thread_};
  }

 private:
  std::mt19937_64 random_;
  unsigned thread_;
  unsigned threads_;
};

// Where the words of the proof are, in the second half: a page for each.
std::size_t counter_word(unsigned thread) { return kWords / 2 + (4 * thread + 1) * 512; }
constexpr std::size_t kCause = kWords - 700 * 512;
constexpr std::size_t kEffect = kWords - 300 * 512;

std::atomic_ref<std::uint64_t> word(std::uint64_t* heap, std::size_t index) {
  return std::atomic_ref<std::uint64_t>(heap[index]);
}

struct World {
  Checkpointer checkpointer;
  std::array<Arena*, 2> arenas{};
  std::array<std::uint64_t*, 2> heaps{};
  std::array<std::size_t, 2> offsets{};  // of the heap in its arena, bytes

  explicit World(const CheckpointerOptions& options)
      : checkpointer(Checkpointer::create(options).value()) {
    for (std::size_t i = 0; i < 2; ++i) {
      arenas[i] = checkpointer.arena(i == 0 ? "first" : "second", 2 * kHeap).value();
      heaps[i] = static_cast<std::uint64_t*>(arenas[i]->resource()->allocate(kHeap, 4096));
      std::memset(heaps[i], 0, kHeap);
      offsets[i] = static_cast<std::size_t>(reinterpret_cast<std::byte*>(heaps[i]) -
                                            arenas[i]->range().base);
    }
  }
};

class Crew {
 public:
  Crew(World& world, unsigned writers) {
    for (unsigned t = 0; t < writers; ++t) {
      threads_.emplace_back([this, &world, t, writers] {
        Steps steps(t, writers);
        for (std::uint64_t n = 1; !stop_.load(std::memory_order_relaxed); ++n) {
          const Steps::Step step = steps.next();
          word(world.heaps[step.arena], step.word).store(n);
          word(world.heaps[t & 1], counter_word(t)).store(n);
          // Many threads on few processors would leave none to the test.
          if (n % (20'000 / writers) == 0) ::usleep(2000);
        }
      });
    }
    threads_.emplace_back([this, &world] {
      while (!stop_.load(std::memory_order_relaxed)) word(world.heaps[0], kCause).fetch_add(1);
    });
    threads_.emplace_back([this, &world] {
      while (!stop_.load(std::memory_order_relaxed))
        word(world.heaps[1], kEffect).store(word(world.heaps[0], kCause).load());
    });
  }
  ~Crew() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// What the writers must have made, carried on from image to image.
class Replay {
 public:
  explicit Replay(unsigned writers) {
    for (unsigned t = 0; t < writers; ++t) ahead_.push_back({Steps(t, writers), 0, {}});
    for (Ahead& each : ahead_) each.next = each.steps.next();
    for (auto& heap : heaps_) heap.assign(kWords / 2, 0);
  }

  /// How many words of an image are not as they must be.
  std::size_t count_wrong(const World& world, const std::string& path) {
    std::array<std::vector<std::byte>, 2> images;
    std::array<const std::uint64_t*, 2> saved{};
    for (std::size_t i = 0; i < 2; ++i) {
      images[i] = contents(path, i == 0 ? "first" : "second", world.offsets[i] + kHeap);
      saved[i] = reinterpret_cast<const std::uint64_t*>(images[i].data() + world.offsets[i]);
    }
    std::size_t wrong = saved[1][kEffect] > saved[0][kCause] ? 1 : 0;
    for (unsigned t = 0; t < ahead_.size(); ++t) {
      Ahead& each = ahead_[t];
      const std::uint64_t counted = saved[t & 1][counter_word(t)];
      for (; each.done < counted; each.next = each.steps.next())
        heaps_[each.next.arena][each.next.word] = ++each.done;
    }
    for (unsigned arena = 0; arena < 2; ++arena) {
      for (std::size_t i = 0; i < kWords / 2; ++i) {
        if (saved[arena][i] == heaps_[arena][i]) continue;
        // The step that is stored and not counted yet, perhaps.
        const Ahead& owner = ahead_[i % ahead_.size()];
        const bool is_next =
            owner.next.arena == arena && owner.next.word == i && saved[arena][i] == owner.done + 1;
        if (!is_next) ++wrong;
      }
    }
    return wrong;
  }

 private:
  struct Ahead {
    Steps steps;
    std::uint64_t done;
    Steps::Step next;
  };
  std::vector<Ahead> ahead_;
  std::array<std::vector<std::uint64_t>, 2> heaps_;
};

class Consistency : public ::testing::TestWithParam<std::tuple<Way, unsigned>> {};

TEST_P(Consistency, EveryImageIsOneInstant) {
  const auto& [way, writers] = GetParam();
  CheckpointerOptions options = options_for(way);
  options.extra_memory = std::size_t{8} << 20;  // back-pressure too
  if (const auto able = Checkpointer::create(options); !able)
    GTEST_SKIP() << describe(able.error());
  World world(options);
  set_way(world.checkpointer, way);
  const Folder folder;
  const Crew crew(world, writers);
  Replay replay(writers);
  const auto end = std::chrono::steady_clock::now() + time_to_run();
  std::string parent;
  unsigned images = 0;
  for (unsigned i = 0; std::chrono::steady_clock::now() < end || images < 3; ++i) {
    const std::string path = folder.file("image." + std::to_string(i) + ".ckpt");
    auto sink = file_sink(path).value();
    SaveOptions how;
    how.full = i % 3 == 0;
    CheckpointerState::of(world.checkpointer).dawdle_us = i % 2 == 0 ? 0 : 2000;
    const auto saved = world.checkpointer.checkpoint(*sink, how);
    ASSERT_TRUE(saved) << describe(saved.error());
    ASSERT_EQ(replay.count_wrong(world, path), 0U) << "image " << i;
    ++images;
    if (i % 3 == 2)
      for (unsigned k = i - 2; k <= i; ++k)
        std::filesystem::remove(folder.file("image." + std::to_string(k) + ".ckpt"));
  }
  RecordProperty("images", static_cast<int>(images));
}

std::string combination(const ::testing::TestParamInfo<std::tuple<Way, unsigned>>& which) {
  return std::string(std::get<0>(which.param).name) + "_" +
         std::to_string(std::get<1>(which.param)) + "_threads";
}

INSTANTIATE_TEST_SUITE_P(Checkpoint, Consistency,
                         ::testing::Combine(::testing::ValuesIn(kWays),
                                            ::testing::Values(1U, 2U, 8U)),
                         combination);

// Without the wait the test must fail, or it proves nothing.
TEST(ConsistencyControl, WithoutTheWaitImagesAreNoInstant) {
  CheckpointerOptions options;
  options.cut = Cut::write_protect;
  options.kernel_accesses = false;
  if (const auto able = Checkpointer::create(options); !able)
    GTEST_SKIP() << describe(able.error());
  World world(options);
  CheckpointerState::of(world.checkpointer).wait_for_all = false;
  CheckpointerState::of(world.checkpointer).dawdle_us = 2000;
  const Folder folder;
  constexpr unsigned kWriters = 2;
  const Crew crew(world, kWriters);
  Replay replay(kWriters);
  std::size_t wrong = 0;
  unsigned images = 0;
  for (; images < 100 && wrong == 0; ++images) {
    const std::string path = folder.file("image.ckpt");
    auto sink = file_sink(path).value();
    const auto saved = world.checkpointer.checkpoint(*sink);
    ASSERT_TRUE(saved) << describe(saved.error());
    wrong += replay.count_wrong(world, path);
  }
  EXPECT_GT(wrong, 0U) << "in " << images << " images";
}

}  // namespace
}  // namespace pagetrap::checkpoint

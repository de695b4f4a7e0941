// Many threads, few pages: no write is lost, whatever leaves and comes back meanwhile.
//
// Each thread owns every eighth word of each page, so that all threads write all pages and each
// word has one writer, which knows what must be in it. PAGETRAP_PAGER_SECONDS makes each test last
// longer: see tests/torture/run.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

using Clock = std::chrono::steady_clock;

double seconds() {
  const char* const text = std::getenv("PAGETRAP_PAGER_SECONDS");
  return text != nullptr ? std::atof(text) : 1.0;
}

struct Mode {
  const char* name;
  BackendId backend;
  SourceTraits traits;
};
constexpr Mode kModes[] = {
    {"by_fault_inline", BackendId::uffd_inline, {.retains_copy = true}},
    {"by_content_inline", BackendId::uffd_inline, {.retains_copy = true, .finds_changes = true}},
    {"freed_inline", BackendId::uffd_inline, {}},
    {"by_fault_thread", BackendId::uffd_thread, {.retains_copy = true}},
    {"by_content_thread", BackendId::uffd_thread, {.retains_copy = true, .finds_changes = true}},
    {"by_fault_mprotect", BackendId::mprotect, {.retains_copy = true}},
    {"by_content_mprotect", BackendId::mprotect, {.retains_copy = true, .finds_changes = true}},
};

class Stress : public ::testing::TestWithParam<Mode> {
 protected:
  static constexpr std::uint64_t kPages = 512;
  static constexpr std::uint64_t kThreads = 8;
  static constexpr std::uint64_t kWordsAtOnce = 16;

  void SetUp() override {
    if (!is_available({"", GetParam().backend})) GTEST_SKIP() << "not on this machine";
    pager_ = Pager::create({.budget_bytes = bytes(Pages{96})}).value();
    source_ = std::make_unique<StoreSource>(kPages, GetParam().traits);
    region_ =
        Region::create(*pager_, bytes(Pages{kPages}), *source_, {.backend = GetParam().backend})
            .value();
  }

  void run_writers() {
    std::vector<std::thread> threads;
    for (std::uint64_t id = 0; id < kThreads; ++id) threads.emplace_back([this, id] { write(id); });
    for (auto& thread : threads) thread.join();
  }

  /// What thread `id` knows of its words.
  class Writer {
   public:
    Writer(Stress& of, std::uint64_t id)
        : of_(of), id_(id), known_(kPages * words_in_page() / kThreads, 0), state_(id + 1) {}

    /// Some words of a page, after a look at each.
    void visit() {
      state_ = mixed(state_);
      const std::uint64_t in_page = words_in_page() / kThreads;
      const std::uint64_t page = (state_ >> 8) % kPages;
      const bool writes = (state_ >> 40) % 3 != 0;
      for (std::uint64_t k = 0; k < kWordsAtOnce; ++k) {
        const std::uint64_t at = page * in_page + (state_ + k) % in_page;
        volatile std::uint64_t& word = words(of_.region_)[at * kThreads + id_];
        if (word != known_[at]) {
          of_.lost_.fetch_add(1);
          known_[at] = word;
        }
        if (!writes) continue;
        known_[at] = state_ + k;
        word = state_ + k;
      }
      if (writes) of_.writes_.fetch_add(kWordsAtOnce, std::memory_order_relaxed);
    }
    void check_all() {
      for (std::uint64_t at = 0; at < known_.size(); ++at)
        if (words(of_.region_)[at * kThreads + id_] != known_[at]) of_.lost_.fetch_add(1);
    }

   private:
    Stress& of_;
    std::uint64_t id_;
    std::vector<std::uint64_t> known_;
    std::uint64_t state_;
  };

  void write(std::uint64_t id) {
    Writer writer(*this, id);
    while (!stopping_.load(std::memory_order_relaxed)) writer.visit();
    writer.check_all();
  }

  /// A busy machine may give us little of its time.
  [[nodiscard]] bool enough() const {
    return writes_.load() > 2000 && region_.statistics().evicted > 2000;
  }
  void wait_for_work() const {
    while (!enough()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  void finish() {
    EXPECT_EQ(lost_.load(), 0U);
    const RegionStatistics seen = region_.statistics();
    std::printf("  %llu writes, %llu evictions, %llu rescued, %llu dropped, %llu moved out\n",
                static_cast<unsigned long long>(writes_.load()),
                static_cast<unsigned long long>(seen.evicted),
                static_cast<unsigned long long>(seen.rescued),
                static_cast<unsigned long long>(seen.dropped),
                static_cast<unsigned long long>(pager_->statistics().moved_out));
  }

  std::unique_ptr<Pager> pager_;
  std::unique_ptr<StoreSource> source_;
  Region region_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<std::uint64_t> writes_{0};
};

TEST_P(Stress, NoWriteIsLost) {
  std::thread clock([this] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds()));
    wait_for_work();
    stopping_.store(true);
  });
  run_writers();
  clock.join();
  finish();
}

// Nothing is frozen then: pages are stored from where they are.
TEST_P(Stress, NorOfAThreadThatIsAlone) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds());
  Writer writer(*this, 0);
  while (Clock::now() < end || !enough()) writer.visit();
  writer.check_all();
  if (GetParam().backend == BackendId::uffd_inline) {
    // At first the pager's own thread may not have said yet that it is one of ours.
    EXPECT_LT(pager_->statistics().moved_out, region_.statistics().evicted / 10)
        << "it was not taken for alone";
  }
  finish();
}

TEST_P(Stress, NorWhileEverythingElseHappens) {
  std::thread other([this] {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds());
    std::uint64_t state = 99;
    while (Clock::now() < end || !enough()) {
      state = mixed(state);
      const std::uint64_t page = (state >> 8) % (kPages - 8);
      const PageRange range{region_.data() + bytes(Pages{page}), Pages{8}};
      switch (state % 6) {
        case 0:
          EXPECT_TRUE(pager_->set_budget(bytes(Pages{32 + (state >> 32) % 128})));
          break;
        case 1:
          EXPECT_TRUE(region_.flush());
          break;
        case 2: {
          const auto pin = region_.pin(range);
          EXPECT_TRUE(pin || pin.error().number == ENOMEM);
          std::this_thread::yield();
          break;
        }
        case 3:
          EXPECT_TRUE(region_.will_need(range, (state >> 20) % 2 == 0));
          break;
        case 4:
          EXPECT_TRUE(region_.dont_need(range));
          break;
        case 5:
          EXPECT_TRUE(region_.evict_all());
          break;
      }
    }
    stopping_.store(true);
  });
  run_writers();
  other.join();
  finish();
}

std::string mode_name(const ::testing::TestParamInfo<Mode>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Modes, Stress, ::testing::ValuesIn(kModes), mode_name);

}  // namespace
}  // namespace pagetrap::pager

// fork(): the child goes on with a copy of everything, also of what is not in memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class Forks : public ::testing::TestWithParam<Way> {
 protected:
  static constexpr std::uint64_t kPages = 400;
  void SetUp() override {
    if (!is_available(GetParam())) GTEST_SKIP() << "not on this machine";
    region_ =
        Region::create(*pager_, bytes(Pages{kPages}), source_, {.backend = GetParam().backend})
            .value();
  }
  [[nodiscard]] volatile std::uint64_t& at(std::uint64_t page) const {
    return words(region_)[page * words_in_page()];
  }
  /// The exit status of a child that runs `work`, which says how many things were wrong.
  template <class Work>
  static int in_child(Work work) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      ::_exit(work() == 0 ? 0 : 1);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{64})}).value();
  StoreSource source_{kPages};
  Region region_;
};

TEST_P(Forks, AChildSeesWhatItsParentSaw) {
  for (std::uint64_t page = 0; page < kPages; ++page) at(page) = page + 1;
  const int status = in_child([this] {
    int wrong = 0;
    for (std::uint64_t page = 0; page < kPages; ++page) wrong += at(page) != page + 1;
    for (std::uint64_t page = 0; page < kPages; ++page) at(page) = 1000 + page;
    for (std::uint64_t page = 0; page < kPages; ++page) wrong += at(page) != 1000 + page;
    wrong += region_.statistics().resident_pages > 64;
    return wrong;
  });
  EXPECT_EQ(status, 0);
  for (std::uint64_t page = 0; page < kPages; ++page) EXPECT_EQ(at(page), page + 1);
}

TEST_P(Forks, BothGoOnAtOnce) {
  for (std::uint64_t page = 0; page < kPages; ++page) at(page) = page + 1;
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    int wrong = 0;
    for (std::uint64_t round = 0; round < 20; ++round)
      for (std::uint64_t i = 0; i < kPages; ++i)
        wrong += at(mixed(i + round) % kPages) != mixed(i + round) % kPages + 1;
    ::_exit(wrong == 0 ? 0 : 1);
  }
  // The parent writes pages that it shares with the child: they cannot be moved out, only copied.
  for (std::uint64_t round = 0; round < 20; ++round) {
    for (std::uint64_t page = 0; page < kPages; ++page) at(page) = round * kPages + page;
    for (std::uint64_t page = 0; page < kPages; ++page) ASSERT_EQ(at(page), round * kPages + page);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_P(Forks, WhileOthersFault) {
  std::atomic<bool> stopping{false};
  std::atomic<std::uint64_t> lost{0};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      std::vector<std::uint64_t> known(kPages, 0);
      ready.fetch_add(1);
      for (std::uint64_t i = 0; !stopping.load(); ++i) {
        const std::uint64_t page = mixed(i * 4 + id) % kPages;
        volatile std::uint64_t& word = words(region_)[page * words_in_page() + 8 + id];
        if (word != known[page]) lost.fetch_add(1);
        word = known[page] = i;
      }
    });
  }
  // Whoever allocates while another forks leaves a sanitizer's allocator locked in the child.
  while (ready.load() < 4) std::this_thread::yield();
  for (std::uint64_t i = 0; i < 20; ++i) {
    at(i) = i;
    const int status = in_child([&] {
      int wrong = 0;
      for (std::uint64_t page = 0; page < kPages; ++page) {
        const std::uint64_t seen = at(page);
        wrong += page <= i ? seen != page : seen != 0;
      }
      return wrong;
    });
    EXPECT_EQ(status, 0);
  }
  stopping.store(true);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(lost.load(), 0U);
}

TEST_P(Forks, AChildsChildToo) {
  for (std::uint64_t page = 0; page < kPages; ++page) at(page) = page + 1;
  const int status = in_child([this] {
    for (std::uint64_t page = 0; page < kPages; page += 2) at(page) = 7;
    return in_child([this] {
      int wrong = 0;
      for (std::uint64_t page = 0; page < kPages; ++page)
        wrong += at(page) != (page % 2 == 0 ? 7 : page + 1);
      return wrong;
    });
  });
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, Forks, ::testing::ValuesIn(kWays), way_name);

TEST(ForksOfSharedStores, AreAbsentInTheChild) {
  const int file = ::memfd_create("store", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(file, static_cast<off_t>(8 * page_size())), 0);
  auto source =
      FileSource::open({.file = file, .writable = true, .in_faulting_thread = true}).value();
  auto pager = Pager::create({.budget_bytes = bytes(Pages{4})}).value();
  auto region = Region::create(*pager, source.length(), source).value();
  for (std::uint64_t page = 0; page < 8; ++page) words(region)[page * words_in_page()] = page;
  const pid_t child = ::fork();
  if (child == 0) {
    const bool absent = region.range().empty() && region.flush().error().number == EBADF &&
                        pager->statistics().resident_bytes == 0;
    ::_exit(absent ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  for (std::uint64_t page = 0; page < 8; ++page)
    EXPECT_EQ(words(region)[page * words_in_page()], page);
  ::close(file);
}

}  // namespace
}  // namespace pagetrap::pager

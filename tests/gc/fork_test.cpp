// fork(): the child has a heap of its own, or says why it has none.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <optional>
#include <thread>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

struct Link : gc::object<Link> {
  gc::ref<Link> next;
  std::uint64_t number = 0;
  static constexpr auto members = gc::members(&Link::next);
};

/// Runs `work` in a child; what it returns is the exit code.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in the child: %s\n", error.what());
    }
    ::_exit(code);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

gc::Options options(gc::PageSupply supply) {
  gc::Options options;
  options.supply = supply;
  options.nursery_bytes = 1_MiB;
  options.limit_bytes = 256_MiB;
  options.growth_bytes = 4_MiB;
  return options;
}

constexpr std::uint64_t kLinks = 100'000;

void make_chain(gc::Heap& heap, gc::root<Link>& chain) {
  for (std::uint64_t i = 0; i < kLinks; ++i) {
    Link* const link = heap.make<Link>();
    link->next = chain.get();
    link->number = i;
    chain = link;
  }
}

bool is_whole(const Link* link, std::uint64_t add = 0) {
  for (std::uint64_t i = kLinks; i-- > 0; link = link->next)
    if (link == nullptr || link->number != i + add) return false;
  return link == nullptr;
}

void add_to_all(Link* link, std::uint64_t what) {
  for (; link != nullptr; link = link->next) link->number += what;
}

bool forks(gc::PageSupply supply) {
  return supply == gc::PageSupply::uffd_copy || supply == gc::PageSupply::none;
}

class GcFork : public testing::TestWithParam<gc::PageSupply> {
 protected:
  void SetUp() override {
    auto made = gc::Heap::create(options(GetParam()));
    if (!made && made.error().number == ENOTSUP) GTEST_SKIP() << describe(made.error());
    heap_.emplace(std::move(made).value());
  }
  std::optional<gc::Heap> heap_;
};

TEST_P(GcFork, TheChildHasACopyOrSaysWhyNot) {
  gc::Mutator here(*heap_);
  gc::root<Link> chain(*heap_);
  make_chain(*heap_, chain);
  const int code = in_child([&] {
    if (!forks(GetParam())) {
      try {
        for (int i = 0; i < 10'000; ++i) heap_->make<Link>();
      } catch (const SystemError& error) {
        return error.error().number == EOWNERDEAD ? 0 : 1;
      }
      return 2;
    }
    if (!is_whole(chain)) return 3;
    // It collects, and nothing of that is the parent's.
    add_to_all(chain, 7);
    for (int cycle = 0; cycle < 4; ++cycle) {
      for (int i = 0; i < 100'000; ++i) heap_->make<Link>();
      heap_->collect(cycle % 2 == 0);
      if (!is_whole(chain, 7)) return 4;
    }
    return heap_->statistics().cycles > 4 ? 0 : 5;
  });
  EXPECT_EQ(code, 0);
  EXPECT_TRUE(is_whole(chain));
  heap_->collect();
  EXPECT_TRUE(is_whole(chain));
}

TEST_P(GcFork, ComesInTheMiddleOfCycles) {
  gc::Mutator here(*heap_);
  gc::root<Link> chain(*heap_);
  make_chain(*heap_, chain);
  for (int round = 0; round < 10; ++round) {
    std::atomic<bool> stop{false};
    // Makes cycles begin all the time, and is in a blocking region now and then.
    std::thread other([&] {
      while (!stop) heap_->collect(round % 2 == 0);
    });
    const int code = in_child([&] {
      if (!forks(GetParam())) return 0;
      if (!is_whole(chain, 2 * static_cast<std::uint64_t>(round))) return 3;
      heap_->collect(round % 3 != 0);
      make_chain(*heap_, chain);
      return 0;
    });
    stop = true;
    here.blocking([&] { other.join(); });
    ASSERT_EQ(code, 0) << "round " << round;
    add_to_all(chain, 2);
  }
}

TEST_P(GcFork, OtherThreadsMustWaitInBlockingRegions) {
  for (const bool blocks : {true, false}) {
    std::atomic<bool> there{false};
    std::atomic<bool> stop{false};
    gc::root<Link> theirs(*heap_);
    std::thread other([&] {
      gc::Mutator here(*heap_);
      make_chain(*heap_, theirs);
      const auto wait = [&] {
        there = true;
        while (!stop) ::usleep(1000);
      };
      if (blocks) {
        here.blocking(wait);
      } else {
        wait();
      }
    });
    while (!there) ::usleep(1000);
    gc::Mutator here(*heap_);
    const int code = in_child([&] {
      try {
        heap_->collect();
      } catch (const SystemError& error) {
        return !blocks || !forks(GetParam()) ? (error.error().number == EOWNERDEAD ? 0 : 1) : 2;
      }
      return blocks && forks(GetParam()) && is_whole(theirs) ? 0 : 3;
    });
    EXPECT_EQ(code, 0) << (blocks ? "blocks" : "runs");
    stop = true;
    here.blocking([&] { other.join(); });
    EXPECT_TRUE(is_whole(theirs));
    theirs = nullptr;
  }
}

TEST_P(GcFork, FromABlockingRegion) {
  gc::Mutator here(*heap_);
  gc::root<Link> chain(*heap_);
  make_chain(*heap_, chain);
  EXPECT_EQ(here.blocking([&] { return in_child([] { return 0; }); }), 0);
  for (int i = 0; i < 100'000; ++i) heap_->make<Link>();
  heap_->collect();
  EXPECT_TRUE(is_whole(chain));
}

TEST_P(GcFork, AChildMayForkAgain) {
  if (!forks(GetParam())) GTEST_SKIP() << "it has no heap";
  gc::Mutator here(*heap_);
  gc::root<Link> chain(*heap_);
  make_chain(*heap_, chain);
  EXPECT_EQ(in_child([&] {
              heap_->collect();
              add_to_all(chain, 1);
              return in_child([&] {
                heap_->collect(false);
                return is_whole(chain, 1) ? 0 : 3;
              });
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(, GcFork, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap

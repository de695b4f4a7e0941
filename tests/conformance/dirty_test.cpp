// DIRTY in its three forms: exact, whoever writes and however.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 256;

struct DirtyCell {
  Combination combination;
  DirtyForm form = DirtyForm::scan;
};

std::string form_name(DirtyForm form) {
  if (form == DirtyForm::scan) return "scan";
  return form == DirtyForm::ring ? "ring" : "traps";
}

std::ostream& operator<<(std::ostream& out, const DirtyCell& cell) {
  return out << form_name(cell.form) << ' ' << cell.combination;
}

// pkey has no tracking that differs from mprotect's; files have traps only.
std::vector<DirtyCell> cells() {
  std::vector<DirtyCell> all;
  for (const Combination& combination : all_combinations()) {
    if (combination.backend == BackendId::pkey) continue;
    for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
      if (combination.backing == Backing::file && form != DirtyForm::traps) continue;
      all.push_back({combination, form});
    }
  }
  return all;
}

class Dirty : public testing::TestWithParam<DirtyCell> {
 protected:
  void SetUp() override {
    const std::string why = lacking(cell(), kNoFaults);
    if (!why.empty()) GTEST_SKIP() << why;
    if (form() == DirtyForm::traps && !lacking(cell(), FaultKind::write_protected).empty())
      GTEST_SKIP() << lacking(cell(), FaultKind::write_protected);
    if (form() != DirtyForm::traps) {
      if (!has_feature("uffd.wp_async")) GTEST_SKIP() << "needs UFFD_FEATURE_WP_ASYNC";
      if (!has_feature("pagemap_scan")) GTEST_SKIP() << "needs PAGEMAP_SCAN";
    }
    if (form() == DirtyForm::ring && !has_feature("perf.user"))
      GTEST_SKIP() << "perf events are not allowed";
  }
  [[nodiscard]] const Combination& cell() const { return GetParam().combination; }
  [[nodiscard]] DirtyForm form() const { return GetParam().form; }
  [[nodiscard]] bool by_kernel() const { return form() != DirtyForm::traps; }
  [[nodiscard]] bool is_null() const { return cell().backend == BackendId::null; }
  /// With null and traps the touch is the write; elsewhere plain stores are seen.
  [[nodiscard]] Way way() const {
    return is_null() && form() == DirtyForm::traps ? Way::touch : Way::plain;
  }

  Region make(std::size_t pages, FaultSet faults = kNoFaults, FaultLog* log = nullptr) {
    RegionOptions options;
    options.backend = cell().backend;
    options.backing = cell().backing;
    options.faults = faults;
    options.dirty = form();
    options.handler_threads = 2;
    if (cell().backing == Backing::file) {
      file_ = temporary_file(bytes(Pages{pages}));
      options.file = file_.get();
    }
    auto made = Region::create(bytes(Pages{pages}), options);
    if (!made) {
      ADD_FAILURE() << describe(made.error());
      return {};
    }
    EXPECT_EQ(made->dirty_form(), form());
    if (log != nullptr) made->on_fault(FaultLog::on_fault, log).value();
    return std::move(*made);
  }

  /// What dirty() says of `range`, as a bit for each page of the region; checks its form.
  static std::vector<bool> collect(Region& region, PageRange range) {
    std::vector<bool> written(region.range().length.count());
    const PageRange before{nullptr, Pages{1}};
    std::vector<PageRange> found = {before};  // appended to, not replaced
    const auto pages = region.dirty(range, found);
    if (!pages) {
      ADD_FAILURE() << describe(pages.error());
      return written;
    }
    EXPECT_EQ(found.front(), before);
    std::size_t sum = 0;
    for (std::size_t i = 1; i < found.size(); ++i) {
      EXPECT_FALSE(found[i].empty());
      EXPECT_TRUE(range.contains(found[i]));
      if (i > 1) {
        EXPECT_GE(found[i].base, found[i - 1].end());
      }  // sorted, disjoint
      sum += found[i].length.count();
      for (std::size_t p = 0; p < found[i].length.count(); ++p)
        written[index_in(region, found[i].base) + p] = true;
    }
    EXPECT_EQ(sum, pages->count());
    return written;
  }
  static std::vector<bool> collect(Region& region) { return collect(region, region.range()); }

  static std::vector<bool> none(std::size_t pages) { return std::vector<bool>(pages, false); }

 private:
  sys::Descriptor file_;
};

std::string dirty_name(const testing::TestParamInfo<DirtyCell>& info) {
  return form_name(info.param.form) + "_" + name_of(info.param.combination);
}

// Tracking starts when the region is made: what was written since is dirty, what was read is not.
TEST_P(Dirty, StartsCleanAtCreation) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  std::vector<bool> expected = none(kPages);
  for (std::size_t i = 0; i < kPages; ++i) {
    if (i % 3 == 0) load(region, page_at(region, i), way());
    if (i % 4 != 0) continue;
    store(region, page_at(region, i), 1, way());
    expected[i] = true;
  }
  EXPECT_EQ(collect(region), expected);
  EXPECT_EQ(collect(region), none(kPages));
}

TEST_P(Dirty, ArmedPagesAreCleanUntilWritten) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.arm_dirty(region.range()).value();
  EXPECT_EQ(collect(region), none(kPages));
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), way()), stamp(i));
  EXPECT_EQ(collect(region), none(kPages));  // reading is not writing
  store(region, page_at(region, 77), 1, way());
  region.arm_dirty(region.range()).value();
  EXPECT_EQ(collect(region), none(kPages));  // declared clean
  std::vector<bool> expected = none(kPages);
  for (const std::size_t i : {std::size_t{0}, std::size_t{3}, std::size_t{4}, kPages - 1}) {
    store(region, page_at(region, i) + page_size() - 8, 1, way());
    expected[i] = true;
  }
  EXPECT_EQ(collect(region), expected);
  EXPECT_EQ(collect(region), none(kPages));
}

// What find_dirty() has left open is its caller's affair until it is armed; all else is exact.
TEST_P(Dirty, FindingWithoutArming) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  EXPECT_EQ(collect(region), none(kPages));
  const auto find = [&](bool& armed) {
    std::vector<PageRange> found;
    const auto result = region.find_dirty(region.range(), found).value();
    armed = result.armed;
    std::vector<bool> pages = none(kPages);
    std::size_t count = 0;
    for (const PageRange& range : found)
      for (std::size_t i = 0; i < range.length.count(); ++i, ++count)
        pages[index_in(region, range.base) + i] = true;
    EXPECT_EQ(result.pages.count(), count);
    return pages;
  };
  const auto write = [&](std::initializer_list<std::size_t> pages, std::uint64_t value) {
    std::vector<bool> written = none(kPages);
    for (const std::size_t i : pages) {
      store(region, page_at(region, i), value, way());
      written[i] = true;
    }
    return written;
  };
  bool armed = false;
  std::vector<bool> expected = write({4, 5, 9}, 1);
  EXPECT_EQ(find(armed), expected);
  expected = write({5, 7}, 2);
  if (!armed) expected[5] = false;
  EXPECT_EQ(find(armed), expected);
  for (const std::size_t i : std::initializer_list<std::size_t>{4, 5, 7, 9})
    region.arm_dirty({page_at(region, i), Pages{1}}).value();
  EXPECT_EQ(collect(region), none(kPages));
  expected = write({4, 5, 7, 9}, 3);
  EXPECT_EQ(collect(region), expected);
  EXPECT_EQ(collect(region), none(kPages));
}

// The ring looks at a few pages one by one, and at many by a scan: nothing may fall between.
TEST_P(Dirty, FewPagesAndMany) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  EXPECT_EQ(collect(region), none(kPages));
  for (std::size_t step : std::initializer_list<std::size_t>{40, 3, 25, 1, 64, 2}) {
    std::vector<bool> expected = none(kPages);
    for (std::size_t i = step / 2; i < kPages; i += step) {
      store(region, page_at(region, i), step, way());
      expected[i] = true;
    }
    EXPECT_EQ(collect(region), expected);
  }
  EXPECT_EQ(collect(region), none(kPages));
}

TEST_P(Dirty, UntouchedPagesCanBeArmed) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  for (std::size_t i = 0; i < kPages; i += 2)
    EXPECT_EQ(load(region, page_at(region, i), way()), 0U);
  EXPECT_EQ(collect(region), none(kPages));
  std::vector<bool> expected = none(kPages);
  for (std::size_t i = 0; i < kPages; i += 3) {
    store(region, page_at(region, i), 1, way());
    expected[i] = true;
  }
  EXPECT_EQ(collect(region), expected);
}

// Single-threaded: the reported set is the written set, nothing less and nothing more.
TEST_P(Dirty, ExactOverRandomWrites) {
  Random random(1991);
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  std::size_t writes = 0;
  std::vector<std::uint64_t> contents(kPages, 0);
  for (unsigned round = 0; writes < 100'000; ++round) {
    std::vector<bool> expected = none(kPages);
    // From a handful of pages to nearly all of them.
    const std::size_t some = std::size_t{1} << random.below(13);
    for (std::size_t w = 0; w < some; ++w) {
      const std::size_t i = random.below(kPages);
      const std::uint64_t value = random.next();
      store(region, page_at(region, i) + 8 * random.below(page_size() / 8), value, way());
      store(region, page_at(region, i), value, way());
      contents[i] = value;
      expected[i] = true;
      load(region, page_at(region, random.below(kPages)), way());
    }
    writes += 2 * some;
    if (round % 3 == 0) {
      // In two halves, as partial ranges.
      const std::size_t cut = 1 + random.below(kPages - 1);
      const std::vector<bool> high = collect(region, pages_at(region, cut, kPages - cut));
      const std::vector<bool> low = collect(region, pages_at(region, 0, cut));
      for (std::size_t i = 0; i < kPages; ++i)
        ASSERT_EQ(i < cut ? low[i] : high[i], expected[i]) << "page " << i << " round " << round;
    } else {
      const std::vector<bool> got = collect(region);
      for (std::size_t i = 0; i < kPages; ++i)
        ASSERT_EQ(got[i], expected[i]) << "page " << i << " round " << round;
    }
  }
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), way()), contents[i]);
  EXPECT_EQ(collect(region), none(kPages));
}

// A collector that copies what dirty() reports must never be behind any write that completed before
// dirty() began. Each writer has a word of its own in every page and counts up.
TEST_P(Dirty, NoWriteFallsBetweenTwoCalls) {
  if (way() == Way::touch) GTEST_SKIP() << "on null, a store is not one step with its touch";
  constexpr unsigned kWriters = 3;
  constexpr std::uint64_t kWrites = 40'000;  // each
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  using Counts = std::array<std::array<std::uint64_t, kPages>, kWriters>;
  std::vector<std::array<std::atomic<std::uint64_t>, kPages>> completed(kWriters);
  for (auto& one : completed)
    for (auto& count : one) count.store(0);
  const auto word = [&](std::size_t page, unsigned writer) {
    return std::atomic_ref<std::uint64_t>(
        *reinterpret_cast<std::uint64_t*>(page_at(region, page) + 512 * writer));
  };
  region.arm_dirty(region.range()).value();
  // An emulated machine takes a minute for what a real one does in a third of a second.
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::atomic<unsigned> running{kWriters};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kWriters; ++t) {
    threads.emplace_back([&, t] {
      Random random(500 + t);
      for (std::uint64_t w = 0; w < kWrites; ++w) {
        if (w % 64 == 0 && std::chrono::steady_clock::now() > enough) break;
        // Bursts over few pages, so that pages come clean in between.
        const std::size_t i = (w / 64 * 37 + random.below(24)) % kPages;
        const std::uint64_t next = word(i, t).load(std::memory_order_relaxed) + 1;
        word(i, t).store(next, std::memory_order_release);
        completed[t][i].store(next, std::memory_order_release);
      }
      running.fetch_sub(1);
    });
  }
  auto shadow = std::make_unique<Counts>();
  auto before = std::make_unique<Counts>();
  for (auto& one : *shadow) one.fill(0);
  unsigned calls = 0;
  std::size_t behind = 0;
  std::size_t reported = 0;
  for (bool last = false; !last; ++calls) {
    last = running.load() == 0;
    for (unsigned t = 0; t < kWriters; ++t)
      for (std::size_t i = 0; i < kPages; ++i) (*before)[t][i] = completed[t][i].load();
    const std::vector<bool> written = collect(region);
    for (std::size_t i = 0; i < kPages; ++i) {
      reported += written[i] ? 1 : 0;
      for (unsigned t = 0; t < kWriters; ++t) {
        if (written[i]) (*shadow)[t][i] = word(i, t).load(std::memory_order_acquire);
        if ((*shadow)[t][i] < (*before)[t][i]) behind += 1;
      }
    }
    if (HasFailure()) break;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(behind, 0U) << "writes were lost";
  EXPECT_GT(reported, 0U);
  for (unsigned t = 0; t < kWriters; ++t)
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ((*shadow)[t][i], completed[t][i].load()) << "page " << i;
  EXPECT_EQ(collect(region), none(kPages));
  std::printf("%u calls reported %zu pages\n", calls, reported);
}

TEST_P(Dirty, PartialRangesLeaveTheRestAlone) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  for (std::size_t i = 0; i < kPages; i += 2) store(region, page_at(region, i), i, way());
  std::vector<bool> expected = none(kPages);
  for (std::size_t i = 100; i < 150; i += 2) expected[i] = true;
  EXPECT_EQ(collect(region, pages_at(region, 100, 50)), expected);
  EXPECT_EQ(collect(region, pages_at(region, 100, 50)), none(kPages));
  expected = none(kPages);
  for (std::size_t i = 0; i < kPages; i += 2) expected[i] = i < 100 || i >= 150;
  EXPECT_EQ(collect(region), expected);
  // Arming a part.
  store(region, page_at(region, 10), 1, way());
  store(region, page_at(region, 11), 1, way());
  region.arm_dirty(pages_at(region, 11)).value();
  expected = none(kPages);
  expected[10] = true;
  EXPECT_EQ(collect(region), expected);
}

TEST_P(Dirty, ThreadsBornLaterAreSeen) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  region.arm_dirty(region.range()).value();
  for (unsigned round = 0; round < 20; ++round) {
    std::vector<bool> expected = none(kPages);
    for (std::size_t i = round; i < kPages; i += 31) expected[i] = true;
    std::thread([&] {
      std::thread([&] {
        for (std::size_t i = round; i < kPages; i += 31)
          store(region, page_at(region, i), 1, way());
      }).join();
    }).join();
    ASSERT_EQ(collect(region), expected) << round;
  }
}

// The kernel writes into the page, on behalf of a system call.
TEST_P(Dirty, WritesBySystemCalls) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  const sys::Descriptor source = temporary_file(bytes(Pages{4}));
  ASSERT_TRUE(source.valid());
  std::vector<std::byte> text(bytes(Pages{4}), std::byte{'x'});
  ASSERT_EQ(::pwrite(source.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const sys::Descriptor from(ends[0]);
  const sys::Descriptor to(ends[1]);
  const auto by_process_vm_writev = [&](std::byte* at) {
    const iovec local{text.data(), 100};
    const iovec remote{at, 100};
    return ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0);
  };
  // Four pages each, so that the ring also has a mismatch that stays.
  for (unsigned round = 0; round < 3; ++round) {
    region.arm_dirty(region.range()).value();
    std::vector<bool> expected = none(kPages);
    const auto expect = [&](std::size_t page, ssize_t done, ssize_t wanted, const char* call) {
      if (by_kernel()) {
        EXPECT_EQ(done, wanted) << call << ": errno " << errno;
      } else if (done < 0) {
        EXPECT_EQ(errno, EFAULT) << call;
      }
      if (done > 0) expected[page] = true;
    };
    if (!by_kernel() && !is_null()) {
      // A system call would fail on a trapped page (EFAULT), unless it is touched before.
      for (const std::size_t page : {10U, 20U, 30U, 40U})
        EXPECT_TRUE(region.touch(page_at(region, page), true));
    } else if (!by_kernel()) {
      GTEST_SKIP() << "null: only touches are seen";
    }
    ASSERT_EQ(::write(to.get(), text.data(), 64), 64);
    expect(10, ::read(from.get(), page_at(region, 10) + 8, 64), 64, "read");
    expect(20, ::pread(source.get(), page_at(region, 20), page_size(), 0),
           static_cast<ssize_t>(page_size()), "pread");
    expect(30, by_process_vm_writev(page_at(region, 30) + 50), 100, "process_vm_writev");
    // Into two pages at once.
    if (by_kernel()) {
      expect(41, ::pread(source.get(), page_at(region, 41) - 16, 32, 0), 32, "pread");
    } else {
      EXPECT_EQ(::pread(source.get(), page_at(region, 40) + 8, 32, 0), 32);
    }
    expected[40] = true;
    EXPECT_EQ(collect(region), expected) << "round " << round;
    EXPECT_EQ(collect(region), none(kPages)) << "round " << round;
    // And plain writes after it are still seen.
    store(region, page_at(region, 99), round, way());
    expected = none(kPages);
    expected[99] = true;
    EXPECT_EQ(collect(region), expected) << "round " << round;
  }
}

// Pages that the kernel pins and a device, or a file system, fills.
TEST_P(Dirty, WritesByDirectInputOutput) {
  if (!by_kernel()) GTEST_SKIP() << "a trapped page must be touched before, as above";
  std::string path = "/tmp/pagetrap.XXXXXX";
  const sys::Descriptor file(::mkostemp(path.data(), O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  const sys::Descriptor direct(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  ::unlink(path.c_str());
  if (!direct.valid()) GTEST_SKIP() << "no O_DIRECT on this file system";
  std::vector<std::byte> text(bytes(Pages{8}), std::byte{'d'});
  ASSERT_EQ(::write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ASSERT_EQ(::fsync(file.get()), 0);
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  for (unsigned round = 0; round < 3; ++round) {
    region.arm_dirty(region.range()).value();
    const std::size_t first = 16 * round + 3;
    const ssize_t got = ::pread(direct.get(), page_at(region, first), bytes(Pages{8}), 0);
    if (got < 0 && errno == EINVAL) GTEST_SKIP() << "no O_DIRECT on this file system";
    ASSERT_EQ(got, static_cast<ssize_t>(bytes(Pages{8})));
    EXPECT_EQ(*(page_at(region, first + 7)), std::byte{'d'});
    std::vector<bool> expected = none(kPages);
    for (std::size_t i = first; i < first + 8; ++i) expected[i] = true;
    EXPECT_EQ(collect(region), expected) << "round " << round;
    EXPECT_EQ(collect(region), none(kPages));
  }
}

// Contents that vanish, and what is written after that.
TEST_P(Dirty, WritesAfterDiscardAreSeen) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  for (const bool evicts : {false, true}) {
    SCOPED_TRACE(evicts ? "evict" : "discard");
    region.arm_dirty(region.range()).value();
    (evicts ? region.evict(pages_at(region, 10, 4)) : region.discard(pages_at(region, 10, 4)))
        .value();
    store(region, page_at(region, 11), 5, way());
    const std::vector<bool> written = collect(region);
    EXPECT_TRUE(written[11]) << "a write was lost";
    for (std::size_t i = 0; i < kPages; ++i) {
      if (i < 10 || i >= 14) {
        EXPECT_FALSE(written[i]) << i;
      }
    }
    EXPECT_EQ(collect(region), none(kPages));
    store(region, page_at(region, 12), 5, way());
    std::vector<bool> expected = none(kPages);
    expected[12] = true;
    EXPECT_EQ(collect(region), expected);
  }
}

TEST_P(Dirty, SuppliedAndUnprotectedPagesCount) {
  const FaultSet missing = FaultKind::missing;
  if (!lacking(cell(), missing).empty()) GTEST_SKIP() << lacking(cell(), missing);
  const Way access = is_null() ? Way::touch : Way::plain;  // faults are wanted
  const Pattern source(kPages, 1);
  FaultLog log;
  log.source = source.data();
  Region region = make(kPages, missing, &log);
  ASSERT_TRUE(region.valid());
  EXPECT_EQ(region.supply(region.range(), source.data(), Supply::copy).value(), Pages{kPages});
  EXPECT_EQ(collect(region), std::vector<bool>(kPages, true));
  EXPECT_EQ(collect(region), none(kPages));
  // A page that goes and comes back with other contents was written.
  region.discard(pages_at(region, 20, 3)).value();
  for (std::size_t i = 20; i < 23; ++i)
    EXPECT_EQ(load(region, page_at(region, i), access), stamp(i, 1));
  store(region, page_at(region, 20), 1, access);
  std::vector<bool> written = collect(region);
  for (std::size_t i = 0; i < kPages; ++i) EXPECT_EQ(written[i], i >= 20 && i < 23) << i;
  store(region, page_at(region, 21), 1, access);
  std::vector<bool> expected = none(kPages);
  expected[21] = true;
  EXPECT_EQ(collect(region), expected);
}

// Traps serve both: the handler sees protect(), the tracker sees writes.
TEST_P(Dirty, LivesBesideProtection) {
  if (by_kernel()) GTEST_SKIP() << "only traps and write_protected faults go together";
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.arm_dirty(region.range()).value();
  region.protect(pages_at(region, 50, 5), Access::read).value();
  std::vector<bool> expected = none(kPages);
  for (std::size_t i = 45; i < 60; ++i) {
    store(region, page_at(region, i), 1, way());
    EXPECT_EQ(load(region, page_at(region, i), way()), 1U);
    expected[i] = true;
  }
  EXPECT_EQ(collect(region), expected);
  // unprotect opens without a trap: it counts as a write.
  region.unprotect(pages_at(region, 5, 2)).value();
  const std::vector<bool> opened = collect(region);
  store(region, page_at(region, 5), 1, way());
  EXPECT_TRUE(opened[5] || collect(region)[5]);
}

TEST_P(Dirty, SeveralRegionsAtOnce) {
  Region one = make(kPages);
  Region two = make(kPages);
  ASSERT_TRUE(one.valid() && two.valid());
  one.arm_dirty(one.range()).value();
  two.arm_dirty(two.range()).value();
  std::vector<bool> in_one = none(kPages);
  std::vector<bool> in_two = none(kPages);
  for (std::size_t i = 0; i < kPages; i += 9) {
    store(one, page_at(one, i), 1, way());
    in_one[i] = true;
    store(two, page_at(two, i + 4 < kPages ? i + 4 : 0), 1, way());
    in_two[i + 4 < kPages ? i + 4 : 0] = true;
  }
  EXPECT_EQ(collect(two), in_two);
  EXPECT_EQ(collect(one), in_one);
  { const Region gone(std::move(two)); }
  store(one, page_at(one, 7), 1, way());
  in_one = none(kPages);
  in_one[7] = true;
  EXPECT_EQ(collect(one), in_one);
}

TEST_P(Dirty, InAForkedChild) {
  Region region = make(kPages);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.arm_dirty(region.range()).value();
  store(region, page_at(region, 3), 1, way());
  const Ending ending = in_child([&] {
    store(region, page_at(region, 4), 1, way());
    std::vector<PageRange> found;
    CHILD_CHECK(region.dirty(region.range(), found));
    bool three = false;
    bool four = false;
    for (const PageRange& range : found) {
      three = three || range.contains(page_at(region, 3));
      four = four || range.contains(page_at(region, 4));
    }
    CHILD_CHECK(three);
    CHILD_CHECK(four);
    found.clear();
    CHILD_CHECK(region.dirty(region.range(), found).value() == Pages{0});
    store(region, page_at(region, 9), 1, way());
    found.clear();
    CHILD_CHECK(region.dirty(region.range(), found).value() == Pages{1});
    CHILD_CHECK(found.size() == 1 && found[0].base == page_at(region, 9));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
  // The parent's own account is its own.
  std::vector<bool> written = collect(region);
  EXPECT_TRUE(written[3]);
  store(region, page_at(region, 8), 1, way());
  written = collect(region);
  EXPECT_TRUE(written[8]);
  EXPECT_EQ(std::count(written.begin(), written.end(), true), 1);
}

INSTANTIATE_TEST_SUITE_P(Vm, Dirty, testing::ValuesIn(cells()), dirty_name);

}  // namespace
}  // namespace pagetrap::conformance

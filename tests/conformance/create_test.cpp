// Making regions: options, errors, adoption, moves, and the end of a region.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 16;

std::size_t resident_pages() {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0;
  std::size_t resident = 0;
  file >> size >> resident;
  return resident;
}

bool is_mapped(const void* address) {
  unsigned char ignored = 0;
  return ::mincore(page_of(address).base, page_size(), &ignored) == 0;
}

class Create : public Conformance {};

TEST_P(Create, RoundsUpToPages) {
  RegionOptions asked = options(2, kNoFaults);
  const Region region = Region::create(page_size() + 1, asked).value();
  EXPECT_EQ(region.range().length, Pages{2});
  EXPECT_EQ(region.size_bytes(), 2 * page_size());
  EXPECT_EQ(region.data(), region.range().base);
  EXPECT_EQ(region.backend(), backend());
  EXPECT_TRUE(region.can().faults == can().faults);
  EXPECT_EQ(region.dirty_form(), DirtyForm::none);
  EXPECT_FALSE(region.frozen());
}

TEST_P(Create, StartsWithZeroes) {
  Region region = make(kPages, kNoFaults);
  ASSERT_TRUE(region.valid());
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read_write);
    EXPECT_TRUE(page_is(page_at(region, i), 0));
  }
}

TEST_P(Create, AlignsAsAsked) {
  for (const std::size_t alignment : {page_size(), 2_MiB, 1_GiB}) {
    RegionOptions asked = options(kPages, kNoFaults);
    asked.alignment = alignment;
    Region region = make_with(kPages, asked);
    ASSERT_TRUE(region.valid());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region.data()) % alignment, 0U);
    write_stamps(region);
    // What was mapped around it to align is gone.
    EXPECT_TRUE(is_mapped(region.range().end() - 1));
  }
}

TEST_P(Create, MapsExactlyWhereAsked) {
  std::byte* address = nullptr;
  {
    const Region found = make(kPages, kNoFaults);
    ASSERT_TRUE(found.valid());
    address = found.data();
    RegionOptions asked = options(kPages, kNoFaults);
    asked.address = address;
    const auto taken = Region::create(bytes(Pages{kPages}), asked);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().number, EEXIST);
  }
  EXPECT_FALSE(is_mapped(address));
  RegionOptions asked = options(kPages, kNoFaults);
  asked.address = address;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  EXPECT_EQ(region.data(), address);
  write_stamps(region);
}

TEST_P(Create, ReservesATebibyteWithoutCommittingIt) {
  const std::size_t pages = 1_TiB / page_size();
  const std::size_t before = resident_pages();
  FaultLog log;
  const FaultSet faults = can_raise(FaultKind::missing) ? FaultSet(FaultKind::missing) : kNoFaults;
  RegionOptions asked = options(pages, faults);
  if (backing() == Backing::file && asked.file < 0)
    GTEST_SKIP() << "no file system here takes a file of 1 TiB";
  asked.huge_pages = HugePages::never;  // or each touch commits 2 MiB where the system says always
  auto made = Region::create(1_TiB, asked);
  if (!made && made.error().number == ENOMEM) GTEST_SKIP() << describe(made.error());
  ASSERT_TRUE(made) << describe(made.error());
  Region region = std::move(*made);
  log.how = Supply::zero;
  region.on_fault(FaultLog::on_fault, &log).value();
  Random random(1097);
  for (unsigned i = 0; i < 64; ++i) {
    const std::size_t index = i == 0 ? 0 : i == 1 ? pages - 1 : random.below(pages);
    store(region, page_at(region, index) + 8, i + 1, ways().back());
    EXPECT_EQ(load(region, page_at(region, index) + 8, ways().back()), i + 1);
  }
  if (!faults.empty()) {
    EXPECT_EQ(log.count(FaultKind::missing), 64U);
  }
  EXPECT_LT(resident_pages(), before + 64 * 16 + 4096);
}

TEST_P(Create, RefusesImpossibleSizes) {
  for (const std::size_t size :
       {std::size_t{1} << 47, std::size_t{1} << 63, ~std::size_t{0}, (std::size_t{1} << 47) + 1}) {
    const auto made = Region::create(size, options(1, kNoFaults));
    ASSERT_FALSE(made) << size;
    EXPECT_EQ(made.error().number, ENOMEM);
    EXPECT_NE(std::string(made.error().remedy), "");
  }
  const auto none = Region::create(0, options(1, kNoFaults));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().number, EINVAL);
}

TEST_P(Create, NamesTheOptionThatIsWrong) {
  const auto refused = [&](const RegionOptions& asked, int number, const char* what) {
    const auto made = Region::create(bytes(Pages{kPages}), asked);
    ASSERT_FALSE(made) << what;
    EXPECT_EQ(made.error().number, number) << what;
    EXPECT_NE(std::string(made.error().operation).find(what), std::string::npos)
        << describe(made.error());
    EXPECT_NE(std::string(made.error().remedy), "");
  };
  const RegionOptions good = options(kPages, kNoFaults);
  RegionOptions asked = good;
  asked.alignment = 12288;
  refused(asked, EINVAL, "alignment");
  asked = good;
  asked.handler_threads = 0;
  refused(asked, EINVAL, "handler_threads");
  asked = good;
  asked.backing = Backing::file;
  asked.file = -1;
  refused(asked, EINVAL, "file");
  asked = good;
  asked.file_offset = 17;
  refused(asked, EINVAL, "file_offset");
  asked = good;
  asked.backing = Backing::anonymous;
  asked.faults = FaultKind::minor;
  refused(asked, EINVAL, "faults");
}

TEST_P(Create, SaysWhatThisBackendCannot) {
  const FaultSet all =
      FaultKind::missing | FaultKind::minor | FaultKind::write_protected | FaultKind::no_access;
  for (const FaultKind kind :
       {FaultKind::missing, FaultKind::minor, FaultKind::write_protected, FaultKind::no_access}) {
    if (can().faults.has(kind)) continue;
    const auto made = Region::create(bytes(Pages{kPages}), options(kPages, kind));
    ASSERT_FALSE(made);
    EXPECT_TRUE(made.error().number == ENOTSUP || made.error().number == EINVAL);
    EXPECT_NE(std::string(made.error().remedy), "");
  }
  if (!can().faults.covers(all)) {
    EXPECT_FALSE(Region::create(bytes(Pages{kPages}), options(kPages, all)));
  }
  RegionOptions asked = options(kPages, kNoFaults);
  asked.delivery = can().faulting_thread ? Delivery::handler_threads : Delivery::faulting_thread;
  const auto other_thread = Region::create(bytes(Pages{kPages}), asked);
  ASSERT_FALSE(other_thread);
  EXPECT_EQ(other_thread.error().number, ENOTSUP);
  if (!can().kernel_accesses) {
    asked = options(kPages, kNoFaults);
    asked.kernel_accesses = true;
    const auto kernel = Region::create(bytes(Pages{kPages}), asked);
    ASSERT_FALSE(kernel);
    EXPECT_EQ(kernel.error().number, ENOTSUP);
  }
}

TEST_P(Create, FileOffsetIsWhereTheRegionStarts) {
  if (backing() != Backing::file) GTEST_SKIP() << "files only";
  RegionOptions asked = options(kPages, kNoFaults);
  asked.file_offset = static_cast<off_t>(bytes(Pages{4}));
  {
    Region region = make_with(kPages - 4, asked);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.discard(pages_at(region, 1)).value();
  }
  std::vector<std::byte> page(page_size());
  for (std::size_t i = 0; i < kPages; ++i) {
    ASSERT_EQ(::pread(asked.file, page.data(), page.size(), static_cast<off_t>(bytes(Pages{i}))),
              static_cast<ssize_t>(page.size()));
    std::uint64_t word = 0;
    std::memcpy(&word, page.data(), sizeof word);
    EXPECT_EQ(word, i < 4 || i == 5 ? 0 : stamp(i - 4)) << i;
  }
}

TEST_P(Create, RangesOutsideAreRefused) {
  Region region = make(kPages, kNoFaults);
  ASSERT_TRUE(region.valid());
  std::byte* const base = region.data();
  const std::size_t size = region.size_bytes();
  const std::size_t wrapping = (~std::size_t{0} >> page_shift()) + 2;  // pages; 1 page in bytes
  const std::vector<PageRange> bad = {
      {base - page_size(), Pages{1}},
      {base - page_size(), Pages{2}},
      {base + size, Pages{1}},
      {base + size - page_size(), Pages{2}},
      {base, Pages{kPages + 1}},
      {base, Pages{0}},
      {base + 8, Pages{1}},
      {nullptr, Pages{1}},
      {nullptr, Pages{0}},
      {reinterpret_cast<std::byte*>(&region), Pages{1}},
      {base, Pages{~std::size_t{0} >> page_shift()}},
      {base + page_size(), Pages{wrapping}},
      {base, Pages{~std::size_t{0}}},
  };
  std::vector<PageRange> found;
  const auto number = [](const auto& result) { return result ? 0 : result.error().number; };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    const PageRange range = bad[i];
    SCOPED_TRACE(testing::Message() << "range number " << i);
    // What passes this check would write beyond every table.
    if (!range.empty() && page_of(range.base).base == range.base) {
      ASSERT_FALSE(region.range().contains(range));
    }
    EXPECT_EQ(number(region.protect(range, Access::read)), EINVAL);
    EXPECT_EQ(number(region.protect(range, Access::read_write)), EINVAL);
    EXPECT_EQ(number(region.unprotect(range)), EINVAL);
    EXPECT_EQ(number(region.supply(range, base, Supply::copy)), EINVAL);
    EXPECT_EQ(number(region.evict(range)), EINVAL);
    EXPECT_EQ(number(region.discard(range)), EINVAL);
    EXPECT_EQ(number(region.guard(range)), EINVAL);
    EXPECT_EQ(number(region.unguard(range)), EINVAL);
    EXPECT_EQ(number(region.dirty(range, found)), EINVAL);
    EXPECT_EQ(number(region.arm_dirty(range)), EINVAL);
  }
  EXPECT_FALSE(region.touch(base - 1));
  EXPECT_FALSE(region.touch(base + size));
  EXPECT_FALSE(region.touch(&region, true));
  EXPECT_FALSE(region.touch(nullptr));
}

TEST_P(Create, OperationsThatNeedAnOptionSaySo) {
  Region region = make(kPages, kNoFaults);
  ASSERT_TRUE(region.valid());
  std::vector<PageRange> found;
  const auto number = [](const auto& result) { return result ? 0 : result.error().number; };
  EXPECT_EQ(number(region.dirty(region.range(), found)), ENOTSUP);
  EXPECT_EQ(number(region.arm_dirty(region.range())), ENOTSUP);
  EXPECT_EQ(number(region.freeze()), ENOTSUP);
  EXPECT_TRUE(region.thaw());  // is not frozen
  EXPECT_EQ(number(region.lift()), ENOTSUP);
  if (!is_shared()) {
    EXPECT_EQ(number(region.map_twice(Access::read)), ENOTSUP);
  }
  if (backend() != BackendId::pkey) {
    EXPECT_EQ(number(Window::open(region)), ENOTSUP);
  }
}

TEST_P(Create, MovedRegionsGoOn) {
  for (const Way way : ways()) {
    FaultLog log;
    Region first = make(kPages, kNoFaults, &log);
    ASSERT_TRUE(first.valid());
    const PageRange range = first.range();
    first.protect(range, Access::read).value();
    Region second(std::move(first));
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the question
    EXPECT_EQ(second.range(), range);
    store(second, page_at(second, 3), 33, way);
    EXPECT_EQ(log.count(FaultKind::write_protected), 1U);

    FaultLog other_log;
    Region third = make(kPages, kNoFaults, &other_log);
    ASSERT_TRUE(third.valid());
    const PageRange old = third.range();
    third = std::move(second);
    EXPECT_FALSE(is_mapped(old.base));  // it ended
    EXPECT_EQ(third.range(), range);
    third.protect(range, Access::read).value();
    store(third, page_at(third, 4), 44, way);
    EXPECT_EQ(load(third, page_at(third, 3), way), 33U);
    EXPECT_EQ(log.count(FaultKind::write_protected), 2U);
    EXPECT_EQ(other_log.total(), 0U);
  }
}

TEST_P(Create, EmptyRegionsRefuseEverything) {
  Region region = make(kPages, kNoFaults);
  ASSERT_TRUE(region.valid());
  const PageRange range = region.range();
  { const Region gone(std::move(region)); }
  // NOLINTBEGIN(bugprone-use-after-move): that is the question
  EXPECT_FALSE(region.valid());
  EXPECT_TRUE(region.range().empty());
  EXPECT_EQ(region.size_bytes(), 0U);
  std::vector<PageRange> found;
  const auto number = [](const auto& result) { return result ? 0 : result.error().number; };
  EXPECT_EQ(number(region.on_fault(FaultLog::on_fault, nullptr)), EBADF);
  EXPECT_EQ(number(region.protect(range, Access::read)), EBADF);
  EXPECT_EQ(number(region.unprotect(range)), EBADF);
  EXPECT_EQ(number(region.supply(range, nullptr, Supply::zero)), EBADF);
  EXPECT_EQ(number(region.evict(range)), EBADF);
  EXPECT_EQ(number(region.discard(range)), EBADF);
  EXPECT_EQ(number(region.guard(range)), EBADF);
  EXPECT_EQ(number(region.unguard(range)), EBADF);
  EXPECT_EQ(number(region.dirty(range, found)), EBADF);
  EXPECT_EQ(number(region.arm_dirty(range)), EBADF);
  EXPECT_EQ(number(region.map_twice(Access::read)), EBADF);
  EXPECT_EQ(number(region.freeze()), EBADF);
  EXPECT_EQ(number(region.thaw()), EBADF);
  EXPECT_EQ(number(region.lift()), EBADF);
  EXPECT_EQ(number(Window::open(region)), EBADF);
  EXPECT_FALSE(region.touch(range.base));
  EXPECT_EQ(region.page_state(range.base), PageState::none);
  EXPECT_FALSE(region.frozen());
  region.quiesce();
  // NOLINTEND(bugprone-use-after-move)
}

TEST_P(Create, FailsCleanlyWithoutAddressSpace) {
  if (getenv("ASAN_OPTIONS") != nullptr) GTEST_SKIP() << "sanitizers need address space themselves";
  const Ending ending = in_child([&] {
    const rlimit limit{64_GiB, 64_GiB};
    CHILD_CHECK(::setrlimit(RLIMIT_AS, &limit) == 0);
    RegionOptions plain;
    plain.backend = backend();
    const auto made = Region::create(128_GiB, plain);
    CHILD_CHECK(!made);
    CHILD_CHECK(made.error().number == ENOMEM);
    auto small = Region::create(1_MiB, plain);
    CHILD_CHECK(small);
    CHILD_CHECK(small->protect(small->range(), Access::read));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << ending.signal << ' ' << ending.output;
}

TEST_P(Create, NameShowsInTheProcessMap) {
  if (is_shared() && backing() != Backing::memfd) GTEST_SKIP() << "files have names of their own";
  RegionOptions asked = options(kPages, kNoFaults);
  asked.name = "conformance-name";
  const Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  std::ifstream maps("/proc/self/maps");
  std::string line;
  bool shown = false;
  while (std::getline(maps, line)) shown = shown || line.find("conformance-name") != line.npos;
  if (!shown && !is_shared()) GTEST_SKIP() << "the kernel names no anonymous memory";
  EXPECT_TRUE(shown);
}

INSTANTIATE_TEST_SUITE_P(Vm, Create, testing::ValuesIn(all_combinations()), test_name);

class Adopt : public Conformance {
 protected:
  void TearDown() override {
    if (!memory_.empty()) ::munmap(memory_.base, memory_.size_bytes());
  }
  /// Memory of the test's own.
  RegionOptions map(std::size_t pages) {
    RegionOptions asked = options(pages, kNoFaults);
    const std::size_t size = bytes(Pages{pages});
    void* base = MAP_FAILED;
    if (backing() == Backing::anonymous) {
      base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else {
      const int file = backing() == Backing::file ? asked.file : ::memfd_create("adopted", 0);
      if (backing() == Backing::memfd && ::ftruncate(file, static_cast<off_t>(size)) != 0)
        return {};
      base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      if (backing() == Backing::memfd) ::close(file);
    }
    if (base != MAP_FAILED) memory_ = {static_cast<std::byte*>(base), Pages{pages}};
    return asked;
  }
  PageRange memory_;
};

TEST_P(Adopt, AppliesRightsAndGivesPlainMemoryBack) {
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    const RegionOptions asked = map(kPages);
    ASSERT_FALSE(memory_.empty());
    for (std::size_t i = 0; i < kPages; ++i) fill_page(memory_.base + bytes(Pages{i}), stamp(i));
    {
      FaultLog log;
      auto adopted = Region::adopt(memory_, asked);
      ASSERT_TRUE(adopted) << describe(adopted.error());
      Region region = std::move(*adopted);
      region.on_fault(FaultLog::on_fault, &log).value();
      EXPECT_EQ(region.range(), memory_);
      EXPECT_EQ(region.page_state(memory_.base), PageState::read_write);
      region.protect(region.range(), Access::read).value();
      for (std::size_t i = 0; i < kPages; ++i) {
        EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
        if (i % 2 == 0) store(region, page_at(region, i) + 8, i, way);
      }
      EXPECT_EQ(log.count(FaultKind::write_protected), can().per_page ? kPages / 2 : 1);
    }
    // Odd pages were still protected.
    EXPECT_TRUE(is_mapped(memory_.base));
    for (std::size_t i = 0; i < kPages; ++i) {
      auto* const words = reinterpret_cast<volatile std::uint64_t*>(memory_.base + bytes(Pages{i}));
      EXPECT_EQ(words[0], stamp(i));
      EXPECT_EQ(words[1], i % 2 == 0 ? i : stamp(i));
      words[2] = 5;
      EXPECT_EQ(words[2], 5U);
    }
    ::munmap(memory_.base, memory_.size_bytes());
    memory_ = {};
  }
}

TEST_P(Adopt, CanBeAdoptedAgain) {
  const RegionOptions asked = map(kPages);
  ASSERT_FALSE(memory_.empty());
  for (unsigned round = 0; round < 5; ++round) {
    FaultLog log;
    auto adopted = Region::adopt(memory_, asked);
    ASSERT_TRUE(adopted) << describe(adopted.error());
    adopted->on_fault(FaultLog::on_fault, &log).value();
    adopted->protect(memory_, Access::read).value();
    store(*adopted, memory_.base, round, ways().back());
    EXPECT_EQ(log.count(FaultKind::write_protected), 1U);
    const auto twice = Region::adopt({memory_.base + page_size(), Pages{1}}, asked);
    ASSERT_FALSE(twice);
    EXPECT_EQ(twice.error().number, EEXIST);
  }
}

TEST_P(Adopt, GuardsEndWithTheRegion) {
  if (backend() == BackendId::pkey) GTEST_SKIP() << "guards are independent of keys";
  const RegionOptions asked = map(kPages);
  ASSERT_FALSE(memory_.empty());
  fill_page(memory_.base, 3);
  {
    auto adopted = Region::adopt(memory_, asked);
    ASSERT_TRUE(adopted) << describe(adopted.error());
    adopted->guard({memory_.base + page_size(), Pages{1}}).value();
  }
  const Ending ending = in_child([&] {
    CHILD_CHECK(page_is(memory_.base, 3));
    fill_page(memory_.base + page_size(), 4);
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ": a guard was left in the caller's "
                              << "memory";
}

TEST_P(Adopt, SharedMemoryCanBeMappedTwice) {
  if (!is_shared()) GTEST_SKIP() << "private memory";
  const RegionOptions asked = map(kPages);
  ASSERT_FALSE(memory_.empty());
  auto adopted = Region::adopt(memory_, asked);
  ASSERT_TRUE(adopted) << describe(adopted.error());
  adopted->protect(memory_, Access::read).value();
  const auto view = adopted->map_twice(Access::read_write);
  ASSERT_TRUE(view) << describe(view.error());
  fill_page(view->at(memory_.base + page_size()), 8);
  adopted->unprotect(memory_).value();
  EXPECT_TRUE(page_is(memory_.base + page_size(), 8));
}

TEST_P(Adopt, RefusesWhatIsNotPages) {
  const RegionOptions asked = map(kPages);
  ASSERT_FALSE(memory_.empty());
  const auto number = [](const auto& result) { return result ? 0 : result.error().number; };
  EXPECT_EQ(number(Region::adopt({memory_.base, Pages{0}}, asked)), EINVAL);
  EXPECT_EQ(number(Region::adopt({memory_.base + 8, Pages{1}}, asked)), EINVAL);
  RegionOptions lifted = asked;
  lifted.liftable = true;
  EXPECT_EQ(number(Region::adopt(memory_, lifted)), ENOTSUP);
}

INSTANTIATE_TEST_SUITE_P(Vm, Adopt, testing::ValuesIn(all_combinations()), test_name);

// Not of one cell: `best`, and the environment.
class Choice : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* forced = ::getenv("PAGETRAP_BACKEND")) forced_ = forced;
  }
  void TearDown() override {
    if (forced_.empty()) {
      ::unsetenv("PAGETRAP_BACKEND");
    } else {
      ::setenv("PAGETRAP_BACKEND", forced_.c_str(), 1);
    }
  }
  std::string forced_;
};

TEST_F(Choice, GridHoldsEverythingOnOffer) {
  for (const Backend& backend : backends()) {
    for (const Backing backing : {Backing::anonymous, Backing::memfd, Backing::file}) {
      if (capabilities(backend.id, backing).faults.empty()) continue;
      bool known = false;
      for (const Combination& cell : all_combinations())
        known = known || (cell.backend == backend.id && cell.backing == backing);
      EXPECT_TRUE(known) << "the conformance grid lacks " << backend.name;
    }
  }
}

TEST_F(Choice, BestIsTheFirstThatCovers) {
  ::unsetenv("PAGETRAP_BACKEND");
  const std::vector<FaultSet> sets = {FaultKind::missing, FaultKind::write_protected,
                                      FaultKind::no_access,
                                      FaultKind::missing | FaultKind::write_protected,
                                      FaultKind::write_protected | FaultKind::no_access};
  for (const FaultSet& faults : sets) {
    for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
      BackendId expected = BackendId::best;
      for (const Backend& backend : backends()) {
        if (!backend.available || backend.id == BackendId::null ||
            !capabilities(backend.id, backing).faults.covers(faults))
          continue;
        expected = backend.id;
        break;
      }
      RegionOptions asked;
      asked.backing = backing;
      asked.faults = faults;
      const auto made = Region::create(page_size(), asked);
      ASSERT_EQ(static_cast<bool>(made), expected != BackendId::best);
      if (made) {
        EXPECT_EQ(made->backend(), expected);
      }
    }
  }
}

TEST_F(Choice, EnvironmentOverridesBest) {
  for (const Backend& backend : backends()) {
    ::setenv("PAGETRAP_BACKEND", backend.name, 1);
    const auto made = Region::create(page_size(), {});
    ASSERT_EQ(static_cast<bool>(made), backend.available) << backend.name;
    if (made) {
      EXPECT_EQ(made->backend(), backend.id);
    }
    // But not what the program asked for by name.
    RegionOptions by_name;
    by_name.backend = BackendId::mprotect;
    EXPECT_EQ(Region::create(page_size(), by_name).value().backend(), BackendId::mprotect);
    EXPECT_EQ(backend_named(backend.name), backend.id);
    EXPECT_STREQ(name(backend.id), backend.name);
  }
  ::setenv("PAGETRAP_BACKEND", "best", 1);
  EXPECT_TRUE(Region::create(page_size(), {}));
  ::setenv("PAGETRAP_BACKEND", "", 1);
  EXPECT_TRUE(Region::create(page_size(), {}));
  EXPECT_FALSE(backend_named("uffd").has_value());
}

TEST_F(Choice, UnknownNameInTheEnvironmentIsAnError) {
  ::setenv("PAGETRAP_BACKEND", "mprotcet", 1);
  const auto made = Region::create(page_size(), {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().number, EINVAL);
  EXPECT_STREQ(made.error().operation, "PAGETRAP_BACKEND");
  EXPECT_NE(std::string(made.error().remedy).find("mprotect"), std::string::npos);
}

// Run by itself with PAGETRAP_BACKEND set by ctest: a program that never names a backend.
TEST_F(Choice, ProgramWithoutABackendOfItsOwnWorks) {
  FaultLog log;
  auto made = Region::create(bytes(Pages{kPages}), {});
  if (!made && !forced_.empty()) {
    const auto forced = backend_named(forced_);
    ASSERT_TRUE(forced.has_value());
    ASSERT_FALSE(lacking({*forced, Backing::anonymous}, kNoFaults).empty())
        << describe(made.error());
    GTEST_SKIP() << describe(made.error());
  }
  ASSERT_TRUE(made) << describe(made.error());
  Region& region = *made;
  std::printf("backend %s\n", name(region.backend()));
  if (!forced_.empty() && forced_ != "best") {
    EXPECT_STREQ(name(region.backend()), forced_.c_str());
  }
  region.on_fault(FaultLog::on_fault, &log).value();
  write_stamps(region);
  region.protect(region.range(), Access::read).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(load(region, page_at(region, i), Way::touch), stamp(i));
    store(region, page_at(region, i), i, Way::touch);
    EXPECT_EQ(load(region, page_at(region, i), Way::touch), i);
  }
  EXPECT_EQ(log.count(FaultKind::write_protected), region.can().per_page ? kPages : 1);
  for (const FaultKind kind : {FaultKind::missing, FaultKind::no_access}) {
    RegionOptions asked;
    asked.backing = Backing::memfd;
    asked.faults = kind;
    const auto other = Region::create(bytes(Pages{kPages}), asked);
    const BackendId id = region.backend();
    if (!forced_.empty()) {
      EXPECT_EQ(static_cast<bool>(other), lacking({id, Backing::memfd}, kind).empty());
    }
  }
}

}  // namespace
}  // namespace pagetrap::conformance

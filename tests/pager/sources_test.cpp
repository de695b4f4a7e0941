// The sources that come with the pager.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "pager/support.hpp"
#include "sys/injection.hpp"

namespace pagetrap::pager {
namespace {

class File {
 public:
  explicit File(std::size_t size) {
    std::string path = (std::filesystem::temp_directory_path() / "pagetrap-XXXXXX").string();
    descriptor = ::mkstemp(path.data());
    ::unlink(path.c_str());
    std::vector<std::uint64_t> words((size + 7) / 8);
    for (std::uint64_t i = 0; i < words.size(); ++i) words[i] = mixed(i);
    EXPECT_EQ(::pwrite(descriptor, words.data(), size, 0), static_cast<ssize_t>(size));
  }
  ~File() { ::close(descriptor); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] std::uint64_t word(std::uint64_t at) const {
    std::uint64_t value = 0;
    EXPECT_EQ(::pread(descriptor, &value, 8, static_cast<off_t>(8 * at)), 8);
    return value;
  }
  [[nodiscard]] off_t size() const {
    struct stat facts {};
    ::fstat(descriptor, &facts);
    return facts.st_size;
  }
  int descriptor = -1;
};

class Files : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{16})}).value();
};

TEST_P(Files, AreRead) {
  const File file(200 * page_size());
  auto source =
      FileSource::open({.file = file.descriptor, .in_faulting_thread = GetParam()}).value();
  auto region = Region::create(*pager_, source.length(), source).value();
  EXPECT_EQ(region.backend() == BackendId::uffd_thread, !GetParam() && is_available(kWays[1]));
  for (std::uint64_t i = 0; i < 500; ++i) {
    const std::uint64_t at = mixed(i) % (200 * words_in_page());
    ASSERT_EQ(words(region)[at], mixed(at));
  }
  for (std::uint64_t at = 0; at < 200 * words_in_page(); ++at)
    ASSERT_EQ(words(region)[at], mixed(at));
  EXPECT_LE(region.statistics().resident_pages, 16U);
}

TEST_P(Files, EndInZeroesAndStartWhereTold) {
  const std::size_t size = 5 * page_size() + 1000;
  const File file(size);
  auto source = FileSource::open({.file = file.descriptor,
                                  .offset = 2 * page_size(),
                                  .length = 10 * page_size(),
                                  .in_faulting_thread = GetParam()})
                    .value();
  auto region = Region::create(*pager_, source.length(), source).value();
  const std::uint64_t first = 2 * words_in_page();
  for (std::uint64_t i = 0; i < 10 * words_in_page(); ++i)
    ASSERT_EQ(words(region)[i], first + i < size / 8 ? mixed(first + i) : 0) << i;
}

TEST_P(Files, AreWrittenButNotPastTheirLength) {
  const File file(40 * page_size() + 100);
  auto source = FileSource::open(
                    {.file = file.descriptor, .writable = true, .in_faulting_thread = GetParam()})
                    .value();
  {
    auto region = Region::create(*pager_, source.length(), source).value();
    for (std::uint64_t page = 0; page < 41; ++page) words(region)[page * words_in_page()] = page;
    words(region)[40 * words_in_page() + 100] = 7;  // behind the end: nobody's
    for (std::uint64_t page = 0; page < 41; ++page)
      ASSERT_EQ(words(region)[page * words_in_page()], page);
    ASSERT_TRUE(region.flush());
    ASSERT_TRUE(source.sync());
    EXPECT_GT(region.statistics().write_traps + region.statistics().faults, 0U);
  }
  for (std::uint64_t page = 0; page < 41; ++page)
    EXPECT_EQ(file.word(page * words_in_page()), page);
  EXPECT_EQ(file.word(words_in_page() + 5), mixed(words_in_page() + 5));
  EXPECT_EQ(file.size(), static_cast<off_t>(40 * page_size() + 100));
}

TEST_P(Files, GrowToTheLengthThatWasAskedFor) {
  const File file(page_size());
  auto source = FileSource::open({.file = file.descriptor,
                                  .length = 64 * page_size(),
                                  .writable = true,
                                  .in_faulting_thread = GetParam()})
                    .value();
  auto region = Region::create(*pager_, source.length(), source).value();
  words(region)[63 * words_in_page()] = 9;
  ASSERT_TRUE(region.flush());
  EXPECT_EQ(file.size(), static_cast<off_t>(64 * page_size()));
  EXPECT_EQ(words(region)[30 * words_in_page()], 0U);
}

struct LastFailure {
  SourceFailure failure;
  static OnError note(void* self, const SourceFailure& failure) noexcept PAGETRAP_SIGNAL_SAFE {
    static_cast<LastFailure*>(self)->failure = failure;
    return OnError::zeroes;
  }
};

TEST_P(Files, ReportTheirDevicesErrors) {
  const File file(64 * page_size());
  auto source = FileSource::open(
                    {.file = file.descriptor, .writable = true, .in_faulting_thread = GetParam()})
                    .value();
  LastFailure last;
  auto region = Region::create(*pager_, source.length(), source,
                               {.on_failure = LastFailure::note, .failure_self = &last})
                    .value();
  sys::inject(sys::Call::pread, EIO);
  EXPECT_EQ(words(region)[9 * words_in_page()], 0U);
  sys::inject(sys::Call::none, 0);
  EXPECT_EQ(last.failure.error.number, EIO);
  EXPECT_EQ(last.failure.page, 9U);
  EXPECT_EQ(last.failure.error.position, static_cast<std::int64_t>(9 * page_size()));
  words(region)[3 * words_in_page()] = 1;
  sys::inject(sys::Call::pwrite, ENOSPC);
  const auto flushed = region.flush();
  sys::inject(sys::Call::none, 0);
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().number, ENOSPC);
  EXPECT_TRUE(last.failure.writing);
  EXPECT_EQ(words(region)[3 * words_in_page()], 1U);
  ASSERT_TRUE(region.flush());
  EXPECT_EQ(file.word(3 * words_in_page()), 1U);
}

INSTANTIATE_TEST_SUITE_P(Delivery, Files, ::testing::Bool());

TEST(FileSources, RefuseWhatTheyCannotBe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_EQ(FileSource::open({.file = ends[0]}).error().number, EINVAL);
  EXPECT_EQ(FileSource::open({.file = -1}).error().number, EBADF);
  ::close(ends[0]);
  ::close(ends[1]);
  const int read_only = ::open("/proc/self/exe", O_RDONLY);
  EXPECT_EQ(FileSource::open({.file = read_only, .writable = true}).error().number, EACCES);
  EXPECT_TRUE(FileSource::open({.file = read_only}));
  ::close(read_only);
  const int folder = ::open("/", O_RDONLY);
  EXPECT_EQ(FileSource::open({.file = folder}).error().number, EINVAL);
  ::close(folder);
}

// --- tiers ------------------------------------------------------------------------------------

TEST(Tiers, KeepEverythingAndNoMoreAboveThanAllowed) {
  constexpr std::uint64_t kPages = 300;
  auto pager = Pager::create({.budget_bytes = bytes(Pages{16})}).value();
  StoreSource upper(kPages);
  StoreSource lower(kPages);
  auto tiers = TieredSource::create(upper, 50, lower, kPages).value();
  auto region = Region::create(*pager, bytes(Pages{kPages}), *tiers).value();
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const std::uint64_t page = mixed(i) % kPages;
    volatile std::uint64_t& word = words(region)[page * words_in_page() + 1];
    const std::uint64_t before = word;
    ASSERT_TRUE(before == 0 || before % kPages == page);
    word = (i + 1) * kPages + page;
    EXPECT_LE(tiers->pages_in_upper(), 50U);
  }
  std::vector<std::uint64_t> last(kPages, 0);
  for (std::uint64_t i = 0; i < 3000; ++i) last[mixed(i) % kPages] = i + 1;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    const std::uint64_t expected = last[page] == 0 ? 0 : last[page] * kPages + page;
    ASSERT_EQ(words(region)[page * words_in_page() + 1], expected) << page;
  }
  EXPECT_GT(lower.writes.load(), 100U);
  EXPECT_EQ(tiers->pages_in_upper(), 50U);
}

TEST(Tiers, AFullUpperTierIsPassedBy) {
  constexpr std::uint64_t kPages = 100;
  auto pager = Pager::create({.budget_bytes = bytes(Pages{8})}).value();
  StoreSource upper(kPages);
  StoreSource lower(kPages);
  auto tiers = TieredSource::create(upper, 50, lower, kPages).value();
  auto region = Region::create(*pager, bytes(Pages{kPages}), *tiers).value();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    if (page == 40) upper.refuses_writes = true;
    words(region)[page * words_in_page()] = page + 1;
  }
  for (std::uint64_t page = 0; page < kPages; ++page)
    ASSERT_EQ(words(region)[page * words_in_page()], page + 1);
  EXPECT_EQ(region.statistics().failed_writes, 0U);
}

TEST(Tiers, ForgetInBoth) {
  constexpr std::uint64_t kPages = 100;
  auto pager = Pager::create({.budget_bytes = bytes(Pages{8})}).value();
  StoreSource upper(kPages);
  StoreSource lower(kPages);
  auto tiers = TieredSource::create(upper, 20, lower, kPages).value();
  auto region = Region::create(*pager, bytes(Pages{kPages}), *tiers).value();
  for (std::uint64_t page = 0; page < kPages; ++page) words(region)[page * words_in_page()] = page;
  ASSERT_TRUE(region.discard(region.range()));
  EXPECT_EQ(tiers->pages_in_upper(), 0U);
  for (std::uint64_t page = 0; page < kPages; ++page)
    ASSERT_EQ(words(region)[page * words_in_page()], 0U);
}

// --- the twin ---------------------------------------------------------------------------------

TEST(CheckedViews, ReadWhatTheRegionReads) {
  auto source = mixed_pages();
  auto view = CheckedView<std::uint64_t>::create(source, 10).value();
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const std::uint64_t at = mixed(i) % (1000 * words_in_page());
    ASSERT_EQ(view[at], mixed(at));
  }
  EXPECT_GT(view.misses(), 10'000U);
  const std::uint64_t before = view.misses();
  for (std::uint64_t at = 0; at < 16 * words_in_page(); ++at) ASSERT_EQ(view[at], mixed(at));
  EXPECT_LE(view.misses(), before + 16);
}

TEST(CheckedViews, ThrowWhereTheSourceFails) {
  StoreSource source(8);
  source.failing_page = 3;
  source.failures_left = 1;
  auto view = CheckedView<std::uint32_t>::create(source, 4).value();
  EXPECT_EQ(view[0], 0U);
  EXPECT_THROW(static_cast<void>(view[3 * page_size() / 4]), SystemError);
  EXPECT_EQ(view[3 * page_size() / 4], 0U);
  EXPECT_EQ(CheckedView<int>::create(source, 0).error().number, EINVAL);
}

}  // namespace
}  // namespace pagetrap::pager

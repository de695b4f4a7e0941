// Restoring: in a fresh process (a fork()ed child that never had the arena), by each mode.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "checkpoint/support.hpp"

namespace pagetrap::checkpoint {
namespace {

using Words = std::pmr::map<int, std::pmr::string>;

std::string value(int i) { return "the value of number " + std::to_string(i); }

constexpr int kEntries = 30'000;

struct Root {
  Words* words = nullptr;
  unsigned char* bulk = nullptr;
  std::size_t bulk_size = 0;
};

// Exit code of `work` in a child process.
template <class Work>
int in_child(Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    // As a program without handlers, also under AddressSanitizer.
    ::signal(SIGSEGV, SIG_DFL);
    ::signal(SIGBUS, SIG_DFL);
    ::_exit(work());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

struct Case {
  const char* name;
  RestoreMode mode;
  Compression compression;
  bool kernel_accesses;
  Cut cut = Cut::automatic;
};
constexpr Case kCases[] = {
    {"eager", RestoreMode::eager, Compression::none, false},
    {"eager_lz4", RestoreMode::eager, Compression::lz4, true},
    {"eager_zstd", RestoreMode::eager, Compression::zstd, false},
    {"mapped", RestoreMode::mapped, Compression::none, true},
    {"lazy", RestoreMode::lazy, Compression::none, false},
    {"lazy_lz4", RestoreMode::lazy, Compression::lz4, true},
    {"lazy_by_handlers", RestoreMode::lazy, Compression::none, true},
    {"mapped_write_protect", RestoreMode::mapped, Compression::none, false, Cut::write_protect},
    {"lazy_write_protect", RestoreMode::lazy, Compression::zstd, true, Cut::write_protect},
};

// Three images: a full one and two increments, made by a process that is gone.
int make_images(const Folder& folder, const Case& how) {
  CheckpointerOptions options;
  options.compression = how.compression;
  options.cut = how.cut;
  auto checkpointer = Checkpointer::create(options);
  if (!checkpointer) return 77;
  Arena& arena = *checkpointer->arena("heap", std::size_t{256} << 20).value();
  Root* const root = arena.make<Root>();
  root->words = arena.make<Words>();
  root->bulk_size = std::size_t{24} << 20;
  root->bulk = static_cast<unsigned char*>(arena.resource()->allocate(root->bulk_size, 4096));
  for (std::size_t i = 0; i < root->bulk_size; ++i)
    root->bulk[i] = static_cast<unsigned char>(i % 251 + (i >> 14));
  arena.set_root(root);
  for (int generation = 1; generation <= 3; ++generation) {
    for (int i = 0; i < kEntries; ++i)
      if (i % 3 < generation) root->words->emplace(i, value(i));
    root->bulk[static_cast<std::size_t>(generation) << 20] = 0xcc;
    auto sink = file_sink(folder.file("s.00000" + std::to_string(generation) + ".ckpt"));
    if (!sink || !checkpointer->checkpoint(**sink)) return 3;
  }
  return 0;
}

bool is_whole(const Root& root, int generation) {
  for (std::size_t i = 0; i < root.bulk_size; ++i) {
    const std::size_t mib = i >> 20;
    const bool marked = mib << 20 == i && mib >= 1 && mib <= static_cast<std::size_t>(generation);
    if (root.bulk[i] != (marked ? 0xcc : static_cast<unsigned char>(i % 251 + (i >> 14))))
      return false;
  }
  for (int i = 0; i < kEntries; ++i) {
    const auto found = root.words->find(i);
    const bool expected = i % 3 < generation;
    if ((found != root.words->end()) != expected) return false;
    if (expected && std::string_view(found->second) != value(i)) return false;
  }
  return true;
}

class Restores : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const int made = in_child([this] { return make_images(folder_, GetParam()); });
    if (made == 77) GTEST_SKIP() << "no cut on this machine";
    ASSERT_EQ(made, 0);
  }
  [[nodiscard]] CheckpointerOptions options() const {
    CheckpointerOptions made;
    made.kernel_accesses = GetParam().kernel_accesses;
    made.cut = GetParam().cut;
    return made;
  }
  Folder folder_;
};

TEST_P(Restores, AFreshProcessGoesOn) {
  for (int generation = 1; generation <= 3; ++generation) {
    EXPECT_EQ(0, in_child([&] {
                bool told = false;
                auto checkpointer = Checkpointer::create(options()).value();
                Hooks hooks;
                hooks.after_restore = [&] { told = true; };
                checkpointer.set_hooks(hooks);
                const auto image = checkpointer.restore(
                    folder_.file("s.00000" + std::to_string(generation) + ".ckpt"),
                    GetParam().mode);
                if (!image) {
                  std::fprintf(stderr, "%s\n", describe(image.error()).c_str());
                  return 2;
                }
                Arena* const arena = checkpointer.find_arena("heap");
                if (!told || arena == nullptr) return 4;
                Root& root = *arena->root<Root>();
                // Somewhere in the middle first.
                if (root.bulk[(root.bulk_size / 2) | 77] !=
                    static_cast<unsigned char>(((root.bulk_size / 2) | 77) % 251 +
                                               (root.bulk_size >> 15)))
                  return 5;
                if (!is_whole(root, generation)) return 6;
                // It goes on allocating, and saving.
                for (int i = 0; i < 1000; ++i) root.words->emplace(kEntries + i, value(i));
                if (const auto complete = checkpointer.finish_restore(); !complete) return 7;
                auto sink = file_sink(folder_.file("next.ckpt")).value();
                const auto saved = checkpointer.checkpoint(*sink);
                if (!saved) return 8;
                if (saved->generation != static_cast<std::uint64_t>(generation) + 1) return 9;
                for (int i = 0; i < 1000; ++i) root.words->erase(kEntries + i);
                return is_whole(root, generation) ? 0 : 10;
              }))
        << "generation " << generation;
  }
}

TEST_P(Restores, ManyThreadsTouchAtOnce) {
  EXPECT_EQ(0, in_child([&] {
              auto checkpointer = Checkpointer::create(options()).value();
              if (!checkpointer.restore(folder_.path(), GetParam().mode)) return 2;
              const Root& root = *checkpointer.find_arena("heap")->root<Root>();
              std::atomic<unsigned> wrong{0};
              std::vector<std::thread> threads;
              for (unsigned t = 0; t < 4; ++t)
                threads.emplace_back([&, t] {
                  for (std::size_t n = 0; n < 6000; ++n) {
                    const std::size_t i = (n * 7919 * 4096 + t * 5000) % root.bulk_size | 1;
                    if (root.bulk[i] != static_cast<unsigned char>(i % 251 + (i >> 14)))
                      wrong.fetch_add(1);
                  }
                });
              for (std::thread& thread : threads) thread.join();
              return wrong.load() == 0 && is_whole(root, 3) && checkpointer.finish_restore() ? 0
                                                                                             : 3;
            }));
}

TEST_P(Restores, ADamagedNewestImageIsPassedOver) {
  const std::string newest = folder_.file("s.000003.ckpt");
  std::filesystem::resize_file(newest, std::filesystem::file_size(newest) - 100);
  EXPECT_EQ(0, in_child([&] {
              auto checkpointer = Checkpointer::create(options()).value();
              const auto image = checkpointer.restore(folder_.path(), GetParam().mode);
              if (!image || image->generation != 2) return 2;
              return is_whole(*checkpointer.find_arena("heap")->root<Root>(), 2) ? 0 : 3;
            }));
}

// A block that is damaged: an error, or where that is too late, a signal and a line; never data.
TEST_P(Restores, ADamagedBlockIsNeverUsed) {
  const std::string first = folder_.file("s.000001.ckpt");
  {
    std::fstream file(first, std::ios::in | std::ios::out | std::ios::binary);
    const auto size = static_cast<std::streamoff>(std::filesystem::file_size(first));
    for (std::streamoff at = 64 << 10; at < size - (64 << 10); at += 100'000) {
      file.seekg(at);
      const char byte = static_cast<char>(file.get() ^ 0x10);
      file.seekp(at);
      file.put(byte);
    }
  }
  const int end = in_child([&] {
    ::close(STDERR_FILENO);
    auto checkpointer = Checkpointer::create(options()).value();
    const auto image = checkpointer.restore(first, GetParam().mode);
    if (!image) return image.error().number == EBADMSG ? 40 : 41;
    return is_whole(*checkpointer.find_arena("heap")->root<Root>(), 1) ? 42 : 43;
  });
  if (GetParam().mode == RestoreMode::lazy) {
    EXPECT_TRUE(end == 1000 + SIGBUS || end == 1000 + SIGSEGV || end == 40) << end;
  } else {
    EXPECT_EQ(end, 40);
  }
}

TEST_P(Restores, AnAddressThatIsTakenIsAnError) {
  EXPECT_EQ(0, in_child([&] {
              const auto info = inspect(folder_.file("s.000001.ckpt"));
              if (!info) return 2;
              void* const base = reinterpret_cast<void*>(info->regions[0].base);
              if (::mmap(base, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                         -1, 0) != base)
                return 3;
              auto checkpointer = Checkpointer::create(options()).value();
              const auto refused = checkpointer.restore(folder_.path(), GetParam().mode);
              return !refused && refused.error().number == EEXIST ? 0 : 4;
            }));
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Checkpoint, Restores, ::testing::ValuesIn(kCases), case_name);

TEST(Restore, OfNothingIsAnError) {
  auto checkpointer = Checkpointer::create({});
  if (!checkpointer) GTEST_SKIP() << describe(checkpointer.error());
  const Folder folder;
  EXPECT_EQ(checkpointer->restore(folder.path()).error().number, ENOENT);
  EXPECT_EQ(checkpointer->restore(folder.file("none")).error().number, ENOENT);
  std::ofstream(folder.file("s.000001.ckpt")) << "no image";
  EXPECT_EQ(checkpointer->restore(folder.path()).error().number, EBADMSG);
}

TEST(Restore, AddedRegionsComeBackWhereTheyAre) {
  constexpr std::size_t kSize = std::size_t{1} << 20;
  auto* const mapped = static_cast<unsigned char*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(mapped, MAP_FAILED);
  std::memset(mapped, 5, kSize / 2);
  const PageRange range{reinterpret_cast<std::byte*>(mapped), pages_for(kSize)};
  const Folder folder;
  {
    auto checkpointer = Checkpointer::create({});
    if (!checkpointer) GTEST_SKIP() << describe(checkpointer.error());
    ASSERT_TRUE(checkpointer->add_region("grid", range));
    auto sink = file_sink(folder.file("a.ckpt")).value();
    ASSERT_TRUE(checkpointer->checkpoint(*sink));
  }
  std::memset(mapped, 6, kSize);
  for (const RestoreMode mode : {RestoreMode::eager, RestoreMode::lazy}) {
    auto checkpointer = Checkpointer::create({}).value();
    ASSERT_TRUE(checkpointer.add_region("grid", range));
    const auto restored = checkpointer.restore(folder.file("a.ckpt"), mode);
    ASSERT_TRUE(restored) << describe(restored.error());
    ASSERT_TRUE(checkpointer.finish_restore());
    for (std::size_t i = 0; i < kSize; ++i) ASSERT_EQ(mapped[i], i < kSize / 2 ? 5 : 0) << i;
  }
  ::munmap(mapped, kSize);
}

}  // namespace
}  // namespace pagetrap::checkpoint

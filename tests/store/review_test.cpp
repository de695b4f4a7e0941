// What a hostile reader of the store tried: each test is one way to lose or mix up what was
// committed.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include <pagetrap/store/inspect.hpp>

#include "store/disks.hpp"
#include "store/format/superblock.hpp"
#include "store/store_state.hpp"
#include "store/support.hpp"

namespace pagetrap::store {
namespace {

using Words = std::array<std::uint64_t, 65536>;

StoreOptions tiny(Detect detect = Detect::best) {
  StoreOptions options;
  options.detect = detect;
  options.log_bytes = std::size_t{128} << 10;
  options.reserve_bytes = std::size_t{32} << 20;
  return options;
}

/// Asks before each write; what it answers is how the write fails.
class HookedDisk final : public MemoryDisk {
 public:
  enum class Answer : std::uint8_t { go_on, fail, fail_half };
  using Hook = std::function<Answer(std::uint64_t offset)>;
  explicit HookedDisk(Bytes contents) : MemoryDisk(std::move(contents)) {}
  void set(Hook hook) {
    const std::lock_guard guard(hook_lock_);
    hook_ = std::move(hook);
  }
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    const std::lock_guard guard(hook_lock_);
    const Answer answer = hook_ ? hook_(offset) : Answer::go_on;
    if (answer == Answer::go_on) return MemoryDisk::write(from, offset);
    if (answer == Answer::fail_half)
      static_cast<void>(MemoryDisk::write(from.first(from.size() / 2 / 512 * 512), offset));
    return {"write", EIO};
  }
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    return write(from, offset);
  }

 private:
  std::mutex hook_lock_;
  Hook hook_;
};

struct Session {
  explicit Session(Bytes contents, StoreOptions options = tiny()) {
    auto owned = std::make_unique<HookedDisk>(std::move(contents));
    disk = owned.get();
    auto state = StoreState::open(std::move(owned), options);
    if (!state) {
      error = state.error();
      return;
    }
    verified = (*state)->verify_all();
    store.emplace(StoreState::as_store(std::move(*state)));
    if (!failed(verified)) words = store->root<Words>("words").value();
  }
  ~Session() {
    if (store) crash();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  [[nodiscard]] const Superblock& block() const { return StoreState::of(*store).superblock(); }
  /// What the medium has now; the store ends as a crash would end it.
  Bytes crash() {
    StoreState::of(*store).abandon_file();
    Bytes left = disk->contents();
    store.reset();
    return left;
  }
  HookedDisk* disk = nullptr;
  Error error{};
  Outcome verified{};
  std::optional<Store> store;
  Words* words = nullptr;
};

Bytes with_words() {
  MemoryDisk disk;
  EXPECT_FALSE(failed(StoreState::format(disk, tiny(), 24)));
  Session session(disk.contents());
  EXPECT_TRUE(session.store->close());
  return session.disk->contents();
}

// Two commits in one batch: of the first the medium has nothing, the second is there. So neither
// ever was. The next session's only commit ends where the second began, a checkpoint takes that for
// the log's begin, and the machine stops.
TEST(Review, ADeadRecordIsNotTheFirstOfTheLog) {
  const Bytes clean = with_words();
  Bytes torn;
  std::uint64_t first = 0;
  {
    Session session(clean);
    first = session.block().log_start;
    ASSERT_TRUE(session.store->commit_async([&] { (*session.words)[0] = 1; }));
    const auto second = session.store->commit_async([&] { (*session.words)[8] = 2; });
    ASSERT_TRUE(session.store->wait(*second));
    ASSERT_EQ(second->end, first + 2);
    const std::uint64_t at = session.block().log_offset + first * 512 % session.block().log_bytes;
    torn = session.crash();
    std::copy_n(clean.begin() + static_cast<std::ptrdiff_t>(at), 512,
                torn.begin() + static_cast<std::ptrdiff_t>(at));
  }
  Bytes after;
  {
    Session session(torn);
    ASSERT_EQ((*session.words)[0], 0U);
    ASSERT_EQ((*session.words)[8], 0U);
    const auto third = session.store->commit_async([&] { (*session.words)[16] = 3; });
    ASSERT_TRUE(session.store->wait(*third));
    ASSERT_EQ(third->end, first + 1);
    ASSERT_TRUE(session.store->checkpoint());
    after = session.crash();
  }
  Session session(after);
  ASSERT_TRUE(session.store) << describe(session.error);
  EXPECT_EQ((*session.words)[16], 3U);
  EXPECT_EQ((*session.words)[8], 0U) << "a commit that never was";
}

// The superblock that begins an epoch must not take back what a checkpoint has written since.
TEST(Review, ACheckpointBeforeTheFirstCommit) {
  const auto fill = [](Session& session, std::size_t from, std::size_t count) {
    return session.store->transaction([&] {
      for (std::size_t i = 0; i < count; ++i) (*session.words)[from + i] = from + i + 1;
    });
  };
  Bytes first;
  {
    Session session(with_words());
    ASSERT_TRUE(fill(session, 0, 7000));
    first = session.crash();
  }
  Bytes second;
  {
    Session session(first);
    ASSERT_TRUE(session.store->checkpoint());
    ASSERT_TRUE(fill(session, 10'000, 1));
    // No more superblocks: the crash comes before the next checkpoint's.
    session.disk->set([](std::uint64_t offset) {
      return offset < kStagingOffset ? HookedDisk::Answer::fail : HookedDisk::Answer::go_on;
    });
    ASSERT_TRUE(fill(session, 20'000, 5000));
    ASSERT_TRUE(fill(session, 30'000, 5000));
    ASSERT_TRUE(fill(session, 40'000, 2000));
    second = session.crash();
  }
  Session session(second);
  ASSERT_TRUE(session.store) << describe(session.error);
  EXPECT_EQ((*session.words)[6999], 7000U);
  EXPECT_EQ((*session.words)[10'000], 10'001U);
  EXPECT_EQ((*session.words)[24'999], 25'000U);
  EXPECT_EQ((*session.words)[41'999], 42'000U);
}

// A page is half in its place when the medium fails; what is staged is all that can mend it. So it
// may not be overwritten before the page is whole.
TEST(Review, AFailedCheckpointsPagesAreWholeBeforeTheNextIsStaged) {
  Bytes left;
  {
    Session session(with_words());
    const std::uint64_t data = session.block().data_offset;
    const std::uint64_t log = session.block().log_offset;
    const auto change = [&](std::uint64_t value) {
      return session.store->transaction([&] {
        for (std::size_t i = 0; i < session.words->size(); i += 512) (*session.words)[i] = value;
      });
    };
    ASSERT_TRUE(change(1));
    ASSERT_TRUE(session.store->checkpoint());
    ASSERT_TRUE(change(2));
    bool once = false;
    session.disk->set([&](std::uint64_t offset) {
      if (offset < data || once) return HookedDisk::Answer::go_on;
      once = true;
      return HookedDisk::Answer::fail_half;
    });
    ASSERT_FALSE(session.store->checkpoint());
    // The next one is cut off by the crash, in the staging area.
    session.disk->set([&](std::uint64_t offset) {
      return offset >= kStagingOffset && offset < log ? HookedDisk::Answer::fail_half
             : offset < data && offset >= log         ? HookedDisk::Answer::go_on
                                                      : HookedDisk::Answer::go_on;
    });
    ASSERT_TRUE(change(3));
    ASSERT_FALSE(session.store->checkpoint());
    left = session.crash();
  }
  Session session(left);
  ASSERT_TRUE(session.store) << describe(session.error);
  ASSERT_FALSE(failed(session.verified)) << describe(session.verified);
  for (std::size_t i = 0; i < session.words->size(); i += 512) EXPECT_EQ((*session.words)[i], 3U);
}

// A file that is as long as its superblock says, and not as long as its log's pages need.
TEST(Review, TheLogKnowsPagesThatTheFileHasNoRoomFor) {
  Folder folder;
  const std::string path = folder.file("a.store");
  std::uint64_t data = 0;
  {
    Store store = Store::open(path, tiny()).value();
    auto& words = *store.root<Words>("words").value();
    ASSERT_TRUE(store.transaction([&] { words[60'000] = 7; }));
    data = StoreState::of(store).superblock().data_offset;
    StoreState::of(store).abandon_file();
  }
  std::filesystem::resize_file(path, data);
  {
    Store store = Store::open(path, tiny()).value();
    ASSERT_EQ((*store.root<Words>("words").value())[60'000], 7U);
    EXPECT_TRUE(store.checkpoint());
    StoreState::of(store).abandon_file();
  }
  const auto again = Store::open(path, tiny());
  ASSERT_TRUE(again) << describe(again.error());
  const auto words = again->find<Words>("words");
  ASSERT_TRUE(words);
  ASSERT_NE(*words, nullptr) << "gone without a word";
  EXPECT_EQ((**words)[60'000], 7U);
}

// Of two slots one is damaged, and the machine stops while the other is being written.
TEST(Review, TheOnlyWholeSuperblockIsNotWrittenFirst) {
  for (const std::size_t damaged : {std::size_t{0}, kPageBytes}) {
    Bytes bytes = with_words();
    bytes[damaged + 40] ^= std::byte{1};
    {
      Session session(bytes);
      ASSERT_TRUE(session.store);
      bool torn = false;
      session.disk->set([&](std::uint64_t offset) {
        if (torn) return HookedDisk::Answer::fail;
        torn = offset < kStagingOffset;
        return torn ? HookedDisk::Answer::fail : HookedDisk::Answer::go_on;
      });
      std::uint64_t where = 1;
      session.disk->set([&](std::uint64_t offset) {
        if (where == 1 && offset < kStagingOffset) where = offset;
        return HookedDisk::Answer::fail;
      });
      EXPECT_FALSE(session.store->transaction([&] { (*session.words)[0] = 1; }));
      bytes = session.crash();
      ASSERT_NE(where, 1U);
      // Rubbish in what was being written.
      bytes[where + 48] ^= std::byte{1};
    }
    Session session(bytes);
    EXPECT_TRUE(session.store) << describe(session.error) << " damaged " << damaged;
  }
}

// --- fork

int exit_of_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(5);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(Review, AChildCanDestroyTheStoreThatItDoesNotHave) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  ::usleep(100'000);  // the checkpointer waits by now
  EXPECT_EQ(exit_of_child([&] {
              { const Store gone = std::move(store); }
              return 0;
            }),
            0);
  EXPECT_OK(store.transaction([] {}));
}

TEST(Review, AChildWritesNothing) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  auto& words = *store.root<Words>("words").value();
  const auto position = store.commit_async([&] { words[1] = 1; });
  ASSERT_TRUE(position);
  EXPECT_EQ(exit_of_child([&] {
              const auto done = store.wait(*position);
              return done ? 1 : done.error().number;
            }),
            EBADF);
  EXPECT_EQ(exit_of_child([&] {
              const auto done = store.sync();
              return done ? 1 : done.error().number;
            }),
            EBADF);
  EXPECT_EQ(exit_of_child([&] {
              const auto found = store.find<Words>("words");
              return found ? 1 : found.error().number;
            }),
            EBADF);
}

TEST(Review, AChildIsToldWhileAnotherThreadIsInATransaction) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  std::atomic<int> step{0};
  std::thread other([&] {
    EXPECT_OK(store.transaction([&] {
      step.store(1);
      while (step.load() != 2) std::this_thread::yield();
    }));
  });
  while (step.load() != 1) std::this_thread::yield();
  const int code = exit_of_child([&] {
    const auto done = store.transaction([] {});
    return done ? 1 : done.error().number;
  });
  step.store(2);
  other.join();
  EXPECT_EQ(code, EBADF);
}

// --- threads

TEST(Review, ThreadsThatMakeARootGetTheSame) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  for (int lap = 0; lap < 50; ++lap) {
    const std::string name = "root " + std::to_string(lap);
    std::atomic<int> ready{0};
    std::uint64_t* made[2]{};
    std::thread threads[2];
    for (int t = 0; t < 2; ++t)
      threads[t] = std::thread([&, t] {
        ready.fetch_add(1);
        while (ready.load() != 2) {
        }
        made[t] = store.root<std::uint64_t>(name).value();
      });
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(made[0], made[1]) << lap;
  }
}

// The first has looked and found nothing when the second makes it.
TEST(Review, OneThreadMakesARootWhileAnotherIsAboutTo) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  int lost = 0;
  for (int lap = 0; lap < 300; ++lap) {
    const std::string name = "root " + std::to_string(lap);
    std::uint64_t* made[4]{};
    std::thread threads[4];
    {
      // They all have looked before any of them can begin.
      const auto reader = store.read_lock();
      for (int t = 0; t < 4; ++t)
        threads[t] = std::thread([&, t] { made[t] = store.root<std::uint64_t>(name).value(); });
      ::usleep(2000);
    }
    for (std::thread& thread : threads) thread.join();
    for (std::uint64_t* one : made) lost += one != made[0] ? 1 : 0;
  }
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(store.roots().size(), 300U);
}

TEST(Review, APlaceThatTheLogHasNotIsRefused) {
  Folder folder;
  Store store = Store::open(folder.file("a.store"), tiny()).value();
  EXPECT_EQ(exit_of_child([] { return 0; }), 0);
  std::atomic<bool> back{false};
  std::thread waiting([&] {
    EXPECT_FALSE(store.wait(Position{~std::uint64_t{0}}));
    back.store(true);
  });
  for (int i = 0; i < 200 && !back.load(); ++i) ::usleep(10'000);
  if (!back.load()) {
    std::fputs("Store::wait() does not return\n", stderr);
    ::_exit(1);
  }
  waiting.join();
}

TEST(Review, NothingIsGivenBackOutsideATransaction) {
  for (const Detect detect : {Detect::ring, Detect::traps}) {
    Folder folder;
    OPEN_OR_SKIP(store, folder.file("a.store"), tiny(detect));
    void* block = nullptr;
    EXPECT_OK(store.transaction([&] { block = store.resource()->allocate(64); }));
    std::atomic<int> step{0};
    std::thread other([&] {
      EXPECT_OK(store.transaction([&] {
        step.store(1);
        while (step.load() != 2) std::this_thread::yield();
      }));
    });
    while (step.load() != 1) std::this_thread::yield();
    store.resource()->deallocate(block, 64);
    step.store(2);
    other.join();
    // It would be part of the other thread's commit.
    EXPECT_OK(store.transaction([&] { EXPECT_NE(store.resource()->allocate(64), block); }));
  }
}

// --- files

TEST(Review, WhatACompactionLeftBehindIsNotTakenOver) {
  Folder folder;
  const std::string path = folder.file("a.store");
  StoreOptions options = tiny();
  {
    Store store = Store::open(path, options).value();
    auto& words = *store.root<Words>("words").value();
    for (std::size_t i = 0; i < words.size(); i += 4096)
      ASSERT_TRUE(store.transaction([&] {
        for (std::size_t j = 0; j < 4096; ++j) words[i + j] = i + j;
      }));
  }
  // One with our number was cut off.
  const std::string left = path + ".new-" + std::to_string(::getpid());
  {
    std::ofstream file(left, std::ios::binary);
    const std::string garbage(std::size_t{16} << 20, 'x');
    file << garbage;
  }
  const auto made = compact(path);
  ASSERT_TRUE(made) << describe(made.error());
  options.verify_all = true;
  const auto store = Store::open(path, options);
  ASSERT_TRUE(store) << describe(store.error());
}

// Whoever opens the old file just before it is replaced would commit to a file without a name.
TEST(Review, NobodyCommitsToAFileThatWasReplaced) {
  Folder folder;
  const std::string path = folder.file("a.store");
  { static_cast<void>(Store::open(path, tiny()).value().root<Words>("words").value()); }
  std::atomic<bool> stop{false};
  std::thread compactor([&] {
    while (!stop.load()) static_cast<void>(compact(path));
  });
  std::uint64_t committed = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  int opened = 0;
  while (std::chrono::steady_clock::now() < end) {
    auto store = Store::open(path, tiny());
    if (!store) continue;
    ++opened;
    auto& words = *store->root<Words>("words").value();
    if (words[0] != committed) {
      ADD_FAILURE() << words[0] << " instead of " << committed << " after " << opened;
      break;
    }
    if (store->transaction([&] { words[0] += 1; })) ++committed;
  }
  stop.store(true);
  compactor.join();
}

// Every field of the superblock with values that make no sense, and a checksum that agrees.
TEST(Review, ASuperblockOfNonsenseIsAnError) {
  const Bytes good = with_words();
  Superblock block;
  std::memcpy(&block, good.data(), sizeof block);
  for (std::size_t at = 16; at < sizeof(Superblock); at += 8) {
    // A store at another address has pointers that lead nowhere: protection is against accidents.
    if (at == offsetof(Superblock, base)) continue;
    for (const std::uint64_t value :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4096}, std::uint64_t{8192},
          std::uint64_t{1} << 21, std::uint64_t{1} << 32, (std::uint64_t{1} << 47) - 4096,
          std::uint64_t{1} << 46, std::uint64_t{1} << 63, ~std::uint64_t{0},
          ~std::uint64_t{0} - 4095}) {
      Superblock wrong = block;
      std::memcpy(reinterpret_cast<char*>(&wrong) + at, &value, sizeof value);
      for (const std::uint32_t flags : {wrong.flags, wrong.flags & ~1U}) {
        wrong.flags = flags;
        MemoryDisk disk(good);
        ASSERT_FALSE(failed(write_superblock(disk, wrong)));
        const int code = exit_of_child([&] {
          Session session(disk.contents());
          if (!session.store) return 0;
          if (failed(session.verified)) return 0;
          static_cast<void>(session.store->transaction([&] { (*session.words)[1] = 1; }));
          static_cast<void>(session.store->checkpoint());
          return 0;
        });
        EXPECT_EQ(code, 0) << "field at " << at << " = " << std::hex << value << " flags " << flags;
      }
    }
  }
}

// --- writes that the ring might not see

TEST(Review, DirectReadsAreSeen) {
  for (const Detect detect : {Detect::ring, Detect::scan}) {
    Folder folder;
    const std::string path = folder.file("a.store");
    const std::string from = folder.file("data");
    { std::ofstream(from) << std::string(65536, 'y'); }
    const int file = ::open(from.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    {
      OPEN_OR_SKIP(store, path, tiny(detect));
      auto& words = *store.root<Words>("words").value();
      auto* const page =
          reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(&words) + 8191) / 4096 * 4096);
      EXPECT_OK(store.transaction([&] { words[0] = page[0] == 0 ? 1 : 2; }));
      EXPECT_OK(store.transaction([&] { EXPECT_EQ(::pread(file, page, 8192, 0), 8192); }));
      const std::size_t index =
          static_cast<std::size_t>(page - reinterpret_cast<char*>(&words)) / 8;
      EXPECT_EQ(words[index], 0x7979797979797979U);
      words[65535] = words[index] == 0;
      const auto left = index;
      EXPECT_OK(store.close());
      static_cast<void>(left);
    }
    ::close(file);
    OPEN_OR_SKIP(again, path, tiny(detect));
    auto& words = *again.root<Words>("words").value();
    const std::size_t index = ((reinterpret_cast<std::uintptr_t>(&words) + 8191) / 4096 * 4096 -
                               reinterpret_cast<std::uintptr_t>(&words)) /
                              8;
    EXPECT_EQ(words[index], 0x7979797979797979U) << name(detect);
    EXPECT_EQ(words[index + 512], 0x7979797979797979U) << name(detect);
  }
}

TEST(Review, ThreadsOlderThanTheStoreAreSeen) {
  for (const Detect detect : {Detect::ring, Detect::scan, Detect::traps}) {
    Folder folder;
    const std::string path = folder.file("a.store");
    std::atomic<Store*> there{nullptr};
    std::atomic<bool> done{false};
    std::thread old([&] {
      while (there.load() == nullptr) std::this_thread::yield();
      Store& store = *there.load();
      auto& words = *store.root<Words>("words").value();
      for (std::uint64_t i = 1; i < 40; ++i)
        EXPECT_OK(store.transaction([&] { words[i * 1000] = i; }));
      done.store(true);
    });
    {
      auto opened = Store::open(path, tiny(detect));
      ASSERT_TRUE(opened) << describe(opened.error());
      there.store(&*opened);
      old.join();
    }
    auto again = Store::open(path, tiny(detect));
    ASSERT_TRUE(again);
    auto& words = *again->root<Words>("words").value();
    for (std::uint64_t i = 1; i < 40; ++i) EXPECT_EQ(words[i * 1000], i) << name(detect);
  }
}

// Where the kernel does not resolve write faults, `best` is traps.
TEST(Review, WithoutUserfaultfdThereAreTraps) {
  Folder folder;
  const std::string path = folder.file("a.store");
  for (const Detect detect : {Detect::best, Detect::best, Detect::ring}) {
    EXPECT_EQ(exit_of_child([&] {
                ::setenv("PAGETRAP_BACKEND", "mprotect", 1);
                auto store = Store::open(path, tiny(detect));
                if (!store)
                  return detect == Detect::ring && store.error().number == ENOTSUP ? 0 : 1;
                auto& words = *store->root<Words>("words").value();
                if (!store->transaction([&] { words[9] += 1; })) return 2;
                if (std::string("traps") != store->statistics().detector) return 3;
                return store->close() ? 0 : 4;
              }),
              0);
  }
}

// --- no durability

TEST(Review, WithoutDurabilityAnErrorIsStillAnUndoneTransaction) {
  StoreOptions options = tiny();
  options.durability = Durability::none;
  options.log_bytes = std::size_t{8} << 20;
  MemoryDisk disk;
  ASSERT_FALSE(failed(StoreState::format(disk, options, 24)));
  Session session(disk.contents(), options);
  ASSERT_TRUE(session.store) << describe(session.error);
  const std::uint64_t log = session.block().log_offset;
  const std::uint64_t data = session.block().data_offset;
  ASSERT_TRUE(session.store->transaction([&] { (*session.words)[0] = 1; }));
  session.disk->set([&](std::uint64_t offset) {
    return offset >= log && offset < data ? HookedDisk::Answer::fail : HookedDisk::Answer::go_on;
  });
  for (std::uint64_t i = 2; i < 100; ++i) {
    const auto done = session.store->transaction([&] {
      (*session.words)[0] = i;
      for (std::size_t j = 1; j < 8000; ++j) (*session.words)[j] = i * j;
    });
    if (done) continue;
    EXPECT_NE((*session.words)[0], i) << "told that it failed, and sees it";
    EXPECT_FALSE(session.store->sync());
    return;
  }
  FAIL() << "the log never failed";
}

// What was given back by mistake must not be handed out as memory of the store.
TEST(Review, AForeignBlockIsNotTakenBack) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store());
  alignas(16) char mine[64]{};
  EXPECT_OK(store.transaction([&] {
    ::testing::internal::CaptureStderr();
    store.resource()->deallocate(mine, sizeof mine);
    store.resource()->deallocate(mine, 100'000);
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("is not of this store"),
              std::string::npos);
    void* const block = store.resource()->allocate(sizeof mine);
    EXPECT_TRUE(store.contains(block));
    store.resource()->deallocate(block, sizeof mine);
  }));
}

TEST(Review, StatisticsAndACheckpointInsideATransaction) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store());
  auto* const number = store.root<int>("number").value();
  EXPECT_OK(store.transaction([&] {
    *number = 7;
    EXPECT_GT(store.statistics().used_bytes, 0U);
    EXPECT_TRUE(store.checkpoint());
  }));
  EXPECT_EQ(*number, 7);
}

TEST(Review, AStoreThatWasMovedFromSaysSo) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store());
  const Store other = std::move(store);
  EXPECT_EQ(store.transaction([] {}).error().number, EBADF);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(store.root<int>("number").error().number, EBADF);
  EXPECT_EQ(store.sync().error().number, EBADF);
  EXPECT_TRUE(store.roots().empty());
  EXPECT_FALSE(store.contains(&store));
  EXPECT_TRUE(other.find<int>("number"));
}

// The last free run that is large enough, behind many that are not, when nothing else is left.
TEST(Review, AllOfTheReserveCanBeUsed) {
  Folder folder;
  StoreOptions options = small_store(Detect::traps);
  options.reserve_bytes = 16_MiB;
  OPEN_OR_SKIP(store, folder.file("a.store"), options);
  constexpr std::size_t kPage = 4096;
  EXPECT_OK(store.transaction([&] {
    std::pmr::memory_resource& memory = *store.resource();
    // Runs of 7 pages and then 40 of 5, each with a page between that stays in use, so that they
    // are not joined; both lengths are in one bin.
    void* const large = memory.allocate(7 * kPage);
    std::vector<void*> small;
    std::vector<void*> between = {memory.allocate(3 * kPage)};
    for (int i = 0; i < 40; ++i) {
      small.push_back(memory.allocate(5 * kPage));
      between.push_back(memory.allocate(3 * kPage));
    }
    std::size_t rest = 0;
    for (std::size_t pages : std::initializer_list<std::size_t>{1024, 256, 64, 16, 4, 3})
      for (bool more = true; more;) {
        try {
          static_cast<void>(memory.allocate(pages * kPage));
          ++rest;
        } catch (const std::bad_alloc&) {
          more = false;
        }
      }
    EXPECT_GT(rest, 0U);
    memory.deallocate(large, 7 * kPage);
    for (void* const block : small) memory.deallocate(block, 5 * kPage);
    EXPECT_EQ(memory.allocate(7 * kPage), large);
  }));
}

// Declaring the same bytes again and again costs the log nothing.
TEST(Review, WhatIsDeclaredTwiceIsLoggedOnce) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store(Detect::barrier));
  auto& numbers = *store.root<std::array<std::uint64_t, 64>>("numbers").value();
  const std::uint64_t before = store.statistics().payload_bytes;
  EXPECT_OK(store.transaction([&](Transaction& transaction) {
    for (std::uint64_t i = 0; i < 100'000; ++i) {
      transaction.write(&numbers[i % 64], 16 * (1 + i % 2) / 2);
      numbers[i % 64] = i + 1;
    }
  }));
  EXPECT_LT(store.statistics().payload_bytes - before, 2 * sizeof numbers);
}

}  // namespace
}  // namespace pagetrap::store

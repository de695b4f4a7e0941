// Snapshots: what one shows, what it costs the writer, and what happens when something is amiss.
// The writer is this process, readers are its children; campaign/readers.cpp kills both.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pagetrap/store/inspect.hpp>
#include <pagetrap/store/snapshot.hpp>

#include <filesystem>
#include <map>
#include <thread>

#include "store/campaign/readers.hpp"
#include "store/disk/file_disk.hpp"
#include "store/disk/locks.hpp"
#include "store/store_state.hpp"
#include "store/support.hpp"

namespace pagetrap::store {
namespace {

namespace fs = std::filesystem;
using Map = std::pmr::map<int, std::pmr::string>;
using Numbers = std::pmr::vector<std::uint64_t>;

/// A child that does what it is told, one command at a time, and says whether that went well.
class Reader {
 public:
  template <class Serve>
  explicit Reader(Serve&& serve) {
    EXPECT_EQ(::pipe2(commands_, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(answers_, O_CLOEXEC), 0);
    child_ = ::fork();
    if (child_ != 0) return;
    ::close(commands_[1]);
    int code = 0;
    try {
      serve(*this);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "reader: %s\n", error.what());
      code = 9;
    }
    ::_exit(code);
  }
  ~Reader() {
    kill(SIGKILL);
    for (const int end : {commands_[0], commands_[1], answers_[0], answers_[1]})
      if (end >= 0) ::close(end);
  }
  // In the child: the next command; 0 at the end.
  char next() {
    char command = 0;
    return ::read(commands_[0], &command, 1) == 1 ? command : '\0';
  }
  void answer(std::uint64_t number) {
    if (::write(answers_[1], &number, sizeof number) != sizeof number) ::_exit(2);
  }
  // In the parent. All ones: it is no more.
  std::uint64_t ask(char command) {
    std::uint64_t number = ~std::uint64_t{0};
    if (child_ <= 0 || ::write(commands_[1], &command, 1) != 1) return number;
    // Other children have copies of these pipes: their end tells nothing.
    pollfd ready{answers_[0], POLLIN, 0};
    while (::poll(&ready, 1, 10) == 0)
      if (::waitpid(child_, &status_, WNOHANG) == child_) {
        child_ = -1;
        return number;
      }
    if (::read(answers_[0], &number, sizeof number) != sizeof number) number = ~std::uint64_t{0};
    return number;
  }
  int kill(int signal) {
    if (child_ <= 0) return status_;
    ::kill(child_, signal);
    ::waitpid(child_, &status_, 0);
    child_ = -1;
    return status_;
  }
  /// Its end, by itself.
  int wait() { return kill(0); }
  [[nodiscard]] pid_t child() const { return child_; }

 private:
  int commands_[2]{-1, -1};
  int answers_[2]{-1, -1};
  pid_t child_ = -1;
  int status_ = 0;
};

// A sanitizer makes an exit of it.
bool died_of_a_fault(int status) {
  return WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGSEGV
                             : WEXITSTATUS(status) == 1;
}

class Snapshots : public ::testing::Test {
 protected:
  [[nodiscard]] std::string history() const { return path_ + ".history"; }
  /// Numbers over `pages` pages, all of them the same.
  static Numbers& numbers(Store& store, std::size_t pages) {
    Numbers& all = *store.root<Numbers>("numbers").value();
    store.transaction([&] { all.resize(pages * 512, 0); }).value();
    return all;
  }
  static void set(Store& store, Numbers& all, std::uint64_t value) {
    store
        .transaction([&] {
          for (std::size_t i = 0; i < all.size(); i += 64) all[i] = value;
        })
        .value();
  }
  /// The number that all of them are, or -1.
  static std::uint64_t all_of(const Snapshot& snapshot) {
    const Numbers* const all = snapshot.find<Numbers>("numbers").value();
    if (all == nullptr || all->empty()) return ~std::uint64_t{0};
    for (std::size_t i = 0; i < all->size(); i += 64)
      if ((*all)[i] != all->front()) return ~std::uint64_t{0};
    return all->front();
  }
  /// 'f': the first number; 'a': all of them; 'r': refresh, whether it is newer; 'c': commits.
  static void serve(Reader& self, const std::string& path) {
    Snapshot snapshot = Snapshot::open(path).value();
    for (char command = self.next(); command != '\0'; command = self.next()) {
      if (command == 'f') self.answer(snapshot.find<Numbers>("numbers").value()->front());
      if (command == 'a') self.answer(all_of(snapshot));
      if (command == 'r') self.answer(snapshot.refresh().value() ? 1 : 0);
      if (command == 'c') self.answer(snapshot.commits());
    }
  }
  std::unique_ptr<Reader> reader() const {
    return std::make_unique<Reader>([this](Reader& self) { serve(self, path_); });
  }
  void set_up() {
    Store store = Store::open(path_, small_store()).value();
    set(store, numbers(store, 50), 1);
  }
  Folder folder_;
  std::string path_ = folder_.file("a.store");
};

TEST_F(Snapshots, AreReadWithoutAWriter) {
  {
    Store store = Store::open(path_, small_store()).value();
    Map& map = *store.root<Map>("map").value();
    for (int i = 0; i < 200; ++i)
      store.transaction([&] { map[i] = std::string(300, 'x'); }).value();
  }
  ASSERT_EQ(::chmod(path_.c_str(), 0400), 0);
  SnapshotOptions options;
  options.verify_all = true;
  const auto snapshot = Snapshot::open(path_, options);
  ASSERT_TRUE(snapshot) << describe(snapshot.error());
  const Map* const map = snapshot->find<Map>("map").value();
  ASSERT_NE(map, nullptr);
  EXPECT_EQ(map->size(), 200U);
  EXPECT_EQ(map->at(7), std::pmr::string(300, 'x'));
  EXPECT_TRUE(snapshot->contains(map));
  EXPECT_EQ(snapshot->commits(), 202U);
  EXPECT_EQ(snapshot->roots().size(), 1U);
  EXPECT_EQ(snapshot->find<Map>("other").value(), nullptr);
  EXPECT_EQ(snapshot->find<Numbers>("map").error().number, EPROTOTYPE);
  EXPECT_OK(snapshot->load(map, sizeof *map));
  EXPECT_EQ(snapshot->load(this, 1).error().number, EINVAL);
  EXPECT_EQ(Snapshot::open(path_).error().number, EEXIST);
  EXPECT_FALSE(fs::exists(history()));
}

TEST_F(Snapshots, OfAStoreThatNobodyHasOpenedYetIsEmpty) {
  {
    auto disk = FileDisk::open(path_, FileUse::create).value();
    ASSERT_FALSE(failed(StoreState::format(*disk, small_store())));
  }
  const Snapshot snapshot = Snapshot::open(path_).value();
  EXPECT_EQ(snapshot.find<Map>("map").value(), nullptr);
  EXPECT_TRUE(snapshot.roots().empty());
  EXPECT_EQ(snapshot.commits(), 0U);
}

TEST_F(Snapshots, StayWhatTheyWereWhileTheWriterGoesOn) {
  Store store = Store::open(path_, small_store()).value();
  Numbers& all = numbers(store, 300);
  set(store, all, 1);
  store.checkpoint().value();
  const auto first = reader();
  EXPECT_EQ(first->ask('f'), 1U);
  for (std::uint64_t value = 2; value < 20; ++value) {
    set(store, all, value);
    store.checkpoint().value();
  }
  EXPECT_TRUE(fs::exists(history()));
  const auto second = reader();
  EXPECT_EQ(second->ask('f'), 19U);
  const auto room = fs::file_size(history());
  for (std::uint64_t value = 20; value < 30; ++value) {
    set(store, all, value);
    store.checkpoint().value();
  }
  // Every page once more, for the second.
  EXPECT_LT(fs::file_size(history()), 2 * room + 65536);
  EXPECT_EQ(first->ask('a'), 1U);
  EXPECT_EQ(second->ask('a'), 19U);
  EXPECT_EQ(first->ask('r'), 1U);
  EXPECT_EQ(first->ask('a'), 29U);
  EXPECT_EQ(first->ask('r'), 0U);
  EXPECT_EQ(second->ask('a'), 19U);
  EXPECT_GT(first->ask('c'), second->ask('c'));
  // The oldest is gone: what only it wanted makes room.
  second->kill(SIGKILL);
  set(store, all, 30);
  store.checkpoint().value();
  struct stat facts {};
  ASSERT_EQ(::stat(history().c_str(), &facts), 0);
  EXPECT_LT(static_cast<std::uint64_t>(facts.st_blocks) * 512, room + 65536);
  first->kill(SIGKILL);
  set(store, all, 31);
  store.checkpoint().value();
  EXPECT_FALSE(fs::exists(history()));
}

TEST_F(Snapshots, GrowAlong) {
  Store store = Store::open(path_, small_store()).value();
  Numbers& all = numbers(store, 10);
  set(store, all, 1);
  const auto one = reader();
  EXPECT_EQ(one->ask('f'), 1U);
  // More than the file had room for when the snapshot was taken.
  for (int i = 0; i < 30; ++i) store.transaction([&] { all.resize(all.size() + 25'000); }).value();
  set(store, all, 2);
  store.checkpoint().value();
  EXPECT_EQ(one->ask('a'), 1U);
  EXPECT_EQ(one->ask('r'), 1U);
  EXPECT_EQ(one->ask('a'), 2U);
}

TEST_F(Snapshots, LiveOnWhenTheWriterDies) {
  std::unique_ptr<Reader> old;
  const auto write = [&](std::uint64_t from, bool clean) {
    return std::make_unique<Reader>([=, this](Reader& self) {
      Store store = Store::open(path_, small_store()).value();
      Numbers& all = numbers(store, 200);
      std::uint64_t value = from;
      for (char command = self.next(); command != '\0'; command = self.next()) {
        set(store, all, value);
        store.checkpoint().value();
        self.answer(value++);
      }
      if (!clean) ::raise(SIGKILL);
    });
  };
  auto writer = write(1, false);
  EXPECT_EQ(writer->ask('s'), 1U);
  old = reader();
  EXPECT_EQ(old->ask('f'), 1U);
  for (int i = 0; i < 5; ++i) writer->ask('s');
  const auto middle = reader();
  EXPECT_EQ(middle->ask('f'), 6U);
  writer->kill(SIGKILL);
  writer = write(7, true);
  for (int i = 0; i < 5; ++i) writer->ask('s');
  EXPECT_EQ(old->ask('a'), 1U);
  EXPECT_EQ(middle->ask('a'), 6U);
  EXPECT_TRUE(fs::exists(history()));
  writer->kill(SIGKILL);
  EXPECT_EQ(middle->ask('r'), 1U);
  EXPECT_EQ(middle->ask('a'), 11U);
  old->kill(SIGKILL);
  middle->kill(SIGKILL);
  // The next writer finds that nobody needs it.
  { const Store store = Store::open(path_, small_store()).value(); }
  EXPECT_FALSE(fs::exists(history()));
}

// What a power failure may leave is nobody's, and nothing that a snapshot could believe.
TEST_F(Snapshots, DoNotBelieveAStaleHistory) {
  {
    Store store = Store::open(path_, small_store()).value();
    set(store, numbers(store, 50), 1);
  }
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{100}, std::size_t{1} << 20}) {
    {
      const int file = ::open(history().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      const std::string rubbish(bytes, '\x5a');
      ASSERT_EQ(::write(file, rubbish.data(), bytes), static_cast<ssize_t>(bytes));
      ::close(file);
    }
    const auto one = reader();
    EXPECT_EQ(one->ask('f'), bytes == 0 ? 1U : bytes == 100 ? 2U : 3U);
    // There is a reader, so that the writer does not just remove it.
    Store store = Store::open(path_, small_store()).value();
    Numbers& all = *store.root<Numbers>("numbers").value();
    set(store, all, all.front() + 1);
    store.checkpoint().value();
    EXPECT_EQ(one->ask('a'), all.front() - 1);
  }
}

// There is no room for a history: nothing wrong is seen, and the writer goes on.
TEST_F(Snapshots, AreLostRatherThanWrong) {
  Store store = Store::open(path_, small_store()).value();
  Numbers& all = numbers(store, 300);
  set(store, all, 1);
  ASSERT_TRUE(fs::create_directory(history()));
  const auto lost = reader();
  const auto mended = reader();
  EXPECT_EQ(lost->ask('f'), 1U);
  EXPECT_EQ(mended->ask('f'), 1U);
  for (std::uint64_t value = 2; value < 6; ++value) {
    set(store, all, value);
    EXPECT_OK(store.checkpoint());
  }
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(lost->ask('a'), ~std::uint64_t{0});
  const int status = lost->wait();
  EXPECT_TRUE(died_of_a_fault(status)) << status;
  EXPECT_EQ(mended->ask('r'), 1U);
  EXPECT_EQ(mended->ask('a'), 5U);
  static_cast<void>(::testing::internal::GetCapturedStderr());
  // And as soon as there is room it is used.
  fs::remove(history());
  const auto whole = reader();
  EXPECT_EQ(whole->ask('f'), 5U);
  set(store, all, 6);
  store.checkpoint().value();
  EXPECT_EQ(whole->ask('a'), 5U);
}

TEST_F(Snapshots, CannotBeWritten) {
  Store store = Store::open(path_, small_store()).value();
  set(store, numbers(store, 2), 1);
  Reader writes([this](Reader& self) {
    const Snapshot snapshot = Snapshot::open(path_).value();
    const Numbers* const all = snapshot.find<Numbers>("numbers").value();
    if (self.next() == 'r') self.answer(all->front());
    self.next();
    const_cast<std::uint64_t&>(all->front()) = 2;
  });
  EXPECT_EQ(writes.ask('r'), 1U);
  writes.ask('w');
  const int status = writes.wait();
  EXPECT_TRUE(died_of_a_fault(status)) << status;
  Reader allocates([this](Reader& self) {
    const Snapshot snapshot = Snapshot::open(path_).value();
    const Numbers* const all = snapshot.find<Numbers>("numbers").value();
    try {
      static_cast<void>(all->get_allocator().resource()->allocate(16, 8));
    } catch (const SystemError& error) {
      self.answer(static_cast<std::uint64_t>(error.error().number));
    }
    self.next();
  });
  EXPECT_EQ(allocates.ask('a'), std::uint64_t{EPERM});
}

// Nobody waits for a reader that does not go on.
TEST_F(Snapshots, AStoppedReaderStopsNobody) {
  Store store = Store::open(path_, small_store()).value();
  Numbers& all = numbers(store, 200);
  set(store, all, 1);
  const auto one = reader();
  EXPECT_EQ(one->ask('f'), 1U);
  ASSERT_EQ(::kill(one->child(), SIGSTOP), 0);
  for (std::uint64_t value = 2; value < 40; ++value) set(store, all, value);
  EXPECT_OK(store.checkpoint());
  ASSERT_EQ(::kill(one->child(), SIGCONT), 0);
  EXPECT_EQ(one->ask('a'), 1U);
}

TEST_F(Snapshots, KeepAStoreFromBeingCompacted) {
  set_up();
  const auto one = reader();
  EXPECT_EQ(one->ask('f'), 1U);
  const auto refused = compact(path_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, EBUSY);
  one->kill(SIGKILL);
  EXPECT_TRUE(compact(path_));
}

TEST_F(Snapshots, AFileOfSeveralNamesHasNone) {
  set_up();
  fs::create_hard_link(path_, folder_.file("b.store"));
  EXPECT_EQ(Snapshot::open(path_).error().number, ENOTSUP);
}

TEST_F(Snapshots, AMovedStoreLosesThem) {
  Store store = Store::open(path_, small_store()).value();
  Numbers& all = numbers(store, 100);
  set(store, all, 1);
  const std::string other = folder_.file("b.store");
  fs::rename(path_, other);
  Reader moved([&](Reader& self) { serve(self, other); });
  EXPECT_EQ(moved.ask('f'), 1U);
  set(store, all, 2);
  EXPECT_OK(store.checkpoint());
  // A snapshot has what is in the staging area: so that it is something else.
  store.root<Map>("other").value();
  EXPECT_OK(store.checkpoint());
  EXPECT_EQ(moved.ask('r'), 1U);
  EXPECT_EQ(moved.ask('f'), 2U);
  set(store, all, 3);
  EXPECT_OK(store.checkpoint());
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(moved.ask('a') + 1, 0U);
  static_cast<void>(::testing::internal::GetCapturedStderr());
}

TEST_F(Snapshots, AChildDoesNotHaveThem) {
  set_up();
  Snapshot snapshot = Snapshot::open(path_).value();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(snapshot.refresh().error().number == EBADF ? 0 : 1);
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// A child that lives on has neither the store's lock nor a snapshot's.
TEST_F(Snapshots, AChildHasNoLocks) {
  auto store = std::make_unique<Store>(Store::open(path_, small_store()).value());
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    ::close(ends[1]);
    static_cast<void>(::read(ends[0], &byte, 1));
    ::_exit(0);
  }
  store.reset();
  EXPECT_TRUE(Store::open(path_, small_store()));
  {
    auto snapshot = std::make_unique<Snapshot>(Snapshot::open(path_).value());
    const pid_t second = ::fork();
    if (second == 0) {
      char byte = 0;
      ::close(ends[1]);
      static_cast<void>(::read(ends[0], &byte, 1));
      ::_exit(0);
    }
    snapshot.reset();
    auto disk = FileDisk::open(path_, FileUse::existing).value();
    EXPECT_FALSE(*snapshots_in_use(disk->shared()->descriptor.get()));
    ::kill(second, SIGKILL);
    ::waitpid(second, nullptr, 0);
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(SnapshotCampaign, FindsNothingInAFewSeconds) {
  campaign::ReaderOptions options;
  options.seconds = 4;
  options.seed = 5;
  const auto result = campaign::read_while_written(options);
  EXPECT_EQ(result.wrong, "");
  EXPECT_FALSE(result.history_left);
  EXPECT_GT(result.opened, 5U);
}

}  // namespace
}  // namespace pagetrap::store

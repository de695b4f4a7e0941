#include "store/sides.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "harness/clock.hpp"
#include "harness/pairs.hpp"

namespace pagetrap::bench {

StoreFolder::StoreFolder(Report& report, double bytes) {
  const char* const wanted = getenv("PAGETRAP_BENCH_DIR");
  std::string pattern = std::string(wanted != nullptr ? wanted : "/var/tmp") + "/pagetrap-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) report.skip(pattern + ": cannot be made");
  path_ = pattern;
  struct statvfs facts {};
  const bool known = statvfs(path_.c_str(), &facts) == 0;
  const double room = static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize);
  if (known && room < bytes) {
    rmdir(path_.c_str());
    report.skip("not enough room on the disk");
  }
}

StoreFolder::~StoreFolder() { std::filesystem::remove_all(path_); }

std::string StoreFolder::make(const char* name) const {
  std::string folder = path_ + "/" + name;
  std::filesystem::create_directory(folder);
  return folder;
}

double told_apart(Report& report, const std::function<void(const Tell&)>& work) {
  int ends[2];
  report.check(pipe(ends) == 0, "pipe");
  const pid_t child = fork();
  report.check(child >= 0, "fork");
  if (child == 0) {
    try {
      work([&](double value) {
        _exit(write(ends[1], &value, sizeof value) == sizeof value ? 0 : 1);
      });
    } catch (const std::exception& wrong) {
      std::fprintf(stderr, "in a process apart: %s\n", wrong.what());
    }
    _exit(1);
  }
  close(ends[1]);
  double value = 0;
  const bool told = read(ends[0], &value, sizeof value) == sizeof value;
  close(ends[0]);
  int status = 1;
  waitpid(child, &status, 0);
  report.check(told && status == 0, "a process that was to tell a figure did not");
  return value;
}

void require_installed(Report& report, const OpenRecordStore& open) {
  // In a process of its own: a library may start threads (RocksDB's flush its tables), which the
  // sides, fork()ed from here, would not have, and wait for.
  int ends[2];
  report.check(pipe(ends) == 0, "pipe");
  const pid_t child = fork();
  report.check(child >= 0, "fork");
  if (child == 0) {
    try {
      // A folder that does not exist: whatever is opened fails, after its library was found.
      static_cast<void>(open({"/nonexistent", kRecordBytes, true}));
    } catch (const NotInstalled& missing) {
      require(write(ends[1], missing.package, strlen(missing.package)) > 0, "write");
    } catch (const std::exception&) {
    }
    _exit(0);
  }
  close(ends[1]);
  std::array<char, 100> package{};
  const ssize_t length = read(ends[0], package.data(), package.size() - 1);
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (length > 0)
    report.skip(std::string(package.data()) + " is not installed: tools/install-rivals");
}

void measure_sides(const Effort& effort, Report& report, const MakeSide& ours,
                   const MakeSide& rival) {
  Peer our_peer(report, ours);
  Peer rival_peer(report, rival);
  interleave(
      effort, report, [&] { return our_peer.measure(); }, [&] { return rival_peer.measure(); });
}

namespace {

struct Loaded {
  std::unique_ptr<RecordStore> store;
  Keys keys;
};

std::shared_ptr<Loaded> load(const OpenRecordStore& open, const RecordStoreOptions& options) {
  const std::uint64_t count = options.bytes / kRecordBytes;
  auto loaded = std::make_shared<Loaded>(Loaded{open(options), Keys(count)});
  loaded->store->load(count);
  return loaded;
}

}  // namespace

MakeSide transactions(const OpenRecordStore& open, RecordStoreOptions options, int in_a_batch) {
  return [=]() -> Peer::Batch {
    auto loaded = load(open, options);
    return [=] {
      Record value{};
      std::uint64_t last = 0;
      const double cost = time_ns([&] {
        for (int i = 0; i < in_a_batch; ++i) {
          std::array<std::uint64_t, 4> keys{};
          for (std::uint64_t& key : keys) key = last = loaded->keys.next();
          for (std::byte& byte : value)
            byte = static_cast<std::byte>(last + static_cast<unsigned>(i));
          loaded->store->update(keys, value);
        }
      });
      require(loaded->store->get(last) == value, "what was written is not there");
      return cost / in_a_batch;
    };
  };
}

MakeSide reads(const OpenRecordStore& open, RecordStoreOptions options, int in_a_batch) {
  return [=]() -> Peer::Batch {
    auto loaded = load(open, options);
    return [=] {
      unsigned sum = 0;
      const double cost = time_ns([&] {
        for (int i = 0; i < in_a_batch; ++i)
          sum += static_cast<unsigned>(loaded->store->get(loaded->keys.next())[7]);
      });
      require(sum == 0, "records are not as they were loaded");
      return cost / in_a_batch;
    };
  };
}

MakeSide floor(const std::string& directory, int in_a_batch) {
  return [=]() -> Peer::Batch {
    constexpr std::size_t kFile = std::size_t{64} << 20;
    constexpr std::size_t kPiece = 512;
    const std::string path = directory + "/floor";
    void* memory = nullptr;
    require(posix_memalign(&memory, 4096, std::size_t{1} << 20) == 0, "memory");
    auto* const bytes = static_cast<std::byte*>(memory);
    std::fill_n(bytes, std::size_t{1} << 20, std::byte{7});
    const int made = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (std::size_t at = 0; at < kFile; at += std::size_t{1} << 20)
      require(pwrite(made, bytes, std::size_t{1} << 20, static_cast<off_t>(at)) > 0, "write");
    require(fsync(made) == 0, "fsync");
    close(made);
    int file = open(path.c_str(), O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (file < 0) file = open(path.c_str(), O_RDWR | O_DSYNC | O_CLOEXEC);
    require(file >= 0, "open");
    auto offset = std::make_shared<std::size_t>(0);
    return [=] {
      return time_ns([&] {
               for (int i = 0; i < in_a_batch; ++i) {
                 require(pwrite(file, bytes, kPiece, static_cast<off_t>(*offset)) ==
                             static_cast<ssize_t>(kPiece),
                         "write");
                 *offset = (*offset + kPiece) % kFile;
               }
             }) /
             in_a_batch;
    };
  };
}

}  // namespace pagetrap::bench

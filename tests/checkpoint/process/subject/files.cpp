// Files with names: regular ones, directories, devices.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "stage.hpp"

namespace subject {
namespace {

int open_file(const std::string& path, int flags, mode_t mode = 0600) {
  return static_cast<int>(must(::open(path.c_str(), flags, mode), path.c_str()));
}

std::string read_from(int descriptor, std::size_t most) {
  std::string bytes(most, '\0');
  const ssize_t got = ::read(descriptor, bytes.data(), bytes.size());
  bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return bytes;
}

const Registered kRegular("regular_files", [](Stage& stage) {
  stage.say("read", "0123456789");
  const int reader = open_file(stage.file("read"), O_RDONLY | O_CLOEXEC);
  read_from(reader, 3);
  const int written = open_file(stage.file("written"), O_RDWR | O_CREAT | O_EXCL);
  must(::write(written, "before", 6), "write");
  const int again = static_cast<int>(must(::dup(written), "dup"));
  const int apart = open_file(stage.file("written"), O_RDONLY);
  read_from(apart, 2);
  const int log = open_file(stage.file("log"), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK);
  must(::write(log, "one\n", 4), "write");
  const int far = static_cast<int>(must(::fcntl(log, F_DUPFD_CLOEXEC, 700), "dup"));
  stage.wait_for_go();
  stage.expect(read_from(reader, 99) == "3456789", "the offset of a file that is read");
  stage.expect((::fcntl(reader, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec");
  stage.expect((::fcntl(written, F_GETFD) & FD_CLOEXEC) == 0, "no close-on-exec");
  stage.expect((::fcntl(far, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec of a copy");
  stage.expect(contents_of(stage.file("written")) == "before", "what was written after the cut");
  stage.expect(::write(again, " and after", 10) == 10, "write through the copy");
  stage.expect(::lseek(written, 0, SEEK_CUR) == 16, "copies share an offset");
  stage.expect(read_from(apart, 99) == "fore and after", "one opened apart has its own");
  stage.expect(contents_of(stage.file("log")) == "one\n", "what was appended after the cut");
  stage.expect((::fcntl(log, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE)) ==
                   (O_APPEND | O_NONBLOCK | O_WRONLY),
               "flags");
  stage.expect(::lseek(log, 0, SEEK_SET) == 0 && ::write(far, "two\n", 4) == 4, "append");
  stage.expect(contents_of(stage.file("log")) == "one\ntwo\n", "O_APPEND");
});

const Registered kDirectories("directories", [](Stage& stage) {
  const std::string folder = stage.file("many");
  must(::mkdir(folder.c_str(), 0700), "mkdir");
  for (int i = 0; i < 2000; ++i)
    ::close(open_file(folder + "/a-name-that-is-not-short-" + std::to_string(i), O_CREAT | O_RDWR));
  DIR* const entries = ::opendir(folder.c_str());
  std::multiset<std::string> seen;
  for (int i = 0; i < 700; ++i) seen.insert(::readdir(entries)->d_name);
  stage.wait_for_go();
  while (const dirent* const entry = ::readdir(entries)) seen.insert(entry->d_name);
  stage.expect(seen.size() == 2002, "each name once, not " + std::to_string(seen.size()));
  stage.expect(std::set<std::string>(seen.begin(), seen.end()).size() == seen.size(),
               "no name twice");
  const int inside = ::openat(::dirfd(entries), "a-name-that-is-not-short-7", O_RDONLY);
  stage.expect(inside >= 0, "openat");
  ::close(inside);
});

const Registered kPaths("paths_only", [](Stage& stage) {
  stage.say("thing", "words");
  const int path = open_file(stage.file("thing"), O_PATH);
  const int folder = open_file(stage.folder(), O_PATH | O_DIRECTORY);
  stage.wait_for_go();
  stage.expect((::fcntl(path, F_GETFL) & O_PATH) != 0, "O_PATH");
  const int opened = ::openat(folder, "thing", O_RDONLY);
  stage.expect(read_from(opened, 9) == "words", "openat from a path only");
  stage.expect(::fchdir(folder) == 0, "fchdir");
});

const Registered kDevices("devices", [](Stage& stage) {
  const int null = open_file("/dev/null", O_RDWR);
  const int zero = open_file("/dev/zero", O_RDONLY);
  const int full = open_file("/dev/full", O_RDWR);
  const int random = open_file("/dev/random", O_RDONLY);
  const int urandom = open_file("/dev/urandom", O_RDONLY | O_NONBLOCK);
  stage.wait_for_go();
  stage.expect(::write(null, "x", 1) == 1 && read_from(null, 1).empty(), "/dev/null");
  stage.expect(read_from(zero, 4) == std::string(4, '\0'), "/dev/zero");
  stage.expect(::write(full, "x", 1) == -1 && errno == ENOSPC, "/dev/full");
  stage.expect(read_from(random, 8).size() == 8, "/dev/random");
  stage.expect(read_from(urandom, 8) != read_from(urandom, 8), "/dev/urandom");
  stage.expect((::fcntl(urandom, F_GETFL) & O_NONBLOCK) != 0, "flags of a device");
});

const Registered kMany("many_descriptors", [](Stage& stage) {
  const rlimit limit{4096, 4096};
  must(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
  std::vector<int> opened;
  for (int i = 0; i < 1500; ++i) {
    opened.push_back(open_file(stage.file("f" + std::to_string(i % 20)), O_RDWR | O_CREAT));
    must(::pwrite(opened.back(), "0123456789", 10, 0), "pwrite");
    must(::lseek(opened.back(), i % 10, SEEK_SET), "lseek");
  }
  must(::dup2(opened.front(), 4000), "dup2");
  stage.wait_for_go();
  for (int i = 0; i < 1500; ++i)
    stage.expect(read_from(opened[static_cast<std::size_t>(i)], 1) == std::to_string(i % 10),
                 "descriptor " + std::to_string(i));
  stage.expect(read_from(4000, 1) == "1", "a copy far away");
  rlimit now{};
  stage.expect(::getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max == 4096, "its limit");
});

}  // namespace
}  // namespace subject

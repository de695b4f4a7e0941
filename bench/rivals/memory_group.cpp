#include "rivals/memory_group.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace pagetrap::bench::rivals {

namespace {

bool put(const std::string& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  out.flush();
  return static_cast<bool>(out);
}

/// Where the groups of the memory controller are mounted; empty: nowhere.
struct Hierarchy {
  std::string root;
  bool second_version = false;
};

Hierarchy find_hierarchy() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device;
    std::string folder;
    std::string type;
    std::string options;
    fields >> device >> folder >> type >> options;
    if (type == "cgroup" && ("," + options + ",").find(",memory,") != std::string::npos)
      return {folder, false};
    if (type != "cgroup2") continue;
    std::ifstream controllers(folder + "/cgroup.subtree_control");
    std::string all;
    std::getline(controllers, all);
    if ((" " + all + " ").find(" memory ") != std::string::npos) return {folder, true};
  }
  return {};
}

std::string new_name() {
  static int made = 0;
  return "/pagetrap-bench-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
}

/// Until nobody can write to `commands` any more.
[[noreturn]] void keep(const std::string& folder, int commands) {
  ::setsid();  // whoever kills the measuring process and all its children must leave this one
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  char nothing = 0;
  while (::read(commands, &nothing, 1) < 0 && errno == EINTR) {
  }
  // A process that has just been killed may still be leaving, with gigabytes to give back.
  for (int tries = 0; tries < 1000; ++tries) {
    if (::rmdir(folder.c_str()) == 0 || errno != EBUSY) break;
    ::usleep(10'000);
  }
  ::_exit(0);
}

}  // namespace

MemoryGroup::MemoryGroup(std::size_t limit_bytes) {
  if (::geteuid() != 0) {
    reason_ = "a memory control group needs root";
    return;
  }
  const Hierarchy hierarchy = find_hierarchy();
  if (hierarchy.root.empty()) {
    reason_ = "no memory control groups are mounted";
    return;
  }
  folder_ = hierarchy.root + new_name();
  if (::mkdir(folder_.c_str(), 0755) != 0) {
    reason_ = std::string("no control group can be made: ") + std::strerror(errno);
    folder_.clear();
    return;
  }
  second_version_ = hierarchy.second_version;
  be_removed_at_the_end();
  if (there() && !set_limit(limit_bytes)) reason_ = "the control group takes no limit";
}

bool MemoryGroup::set_limit(std::size_t limit_bytes) const {
  const char* const file = second_version_ ? "/memory.max" : "/memory.limit_in_bytes";
  // Version 1 gives up after a few rounds of reclaim: each attempt gets further.
  for (int tries = 0; tries < 20; ++tries)
    if (put(folder_ + file, std::to_string(limit_bytes))) return true;
  return false;
}

void MemoryGroup::prefer_swap() const {
  // Version 2 has no such file, and the machine's setting there.
  if (!second_version_) static_cast<void>(put(folder_ + "/memory.swappiness", "100"));
}

void MemoryGroup::be_removed_at_the_end() {
  std::array<int, 2> commands{};
  const bool piped = ::pipe2(commands.data(), O_CLOEXEC) == 0;
  if (piped) keeper_ = ::fork();
  if (piped && keeper_ == 0) {
    ::close(commands[1]);
    keep(folder_, commands[0]);
  }
  if (piped) {
    ::close(commands[0]);
    to_keeper_ = commands[1];
  }
  if (keeper_ > 0) return;
  reason_ = "no process to keep the control group";
  static_cast<void>(::rmdir(folder_.c_str()));
}

MemoryGroup::~MemoryGroup() {
  if (to_keeper_ >= 0) ::close(to_keeper_);
  while (keeper_ > 0 && ::waitpid(keeper_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::size_t MemoryGroup::used_bytes() const {
  std::size_t used = 0;
  std::ifstream(folder_ + (second_version_ ? "/memory.current" : "/memory.usage_in_bytes")) >> used;
  std::ifstream statistics(folder_ + "/memory.stat");
  std::string name;
  for (std::size_t value = 0; statistics >> name >> value;)
    if (name == "inactive_file" || name == "active_file") used -= std::min(used, value);
  return used;
}

std::size_t MemoryGroup::peak_bytes() const {
  std::size_t peak = 0;
  std::ifstream(folder_ + (second_version_ ? "/memory.peak" : "/memory.max_usage_in_bytes")) >>
      peak;
  return peak;
}

bool MemoryGroup::join() const {
  return put(folder_ + "/cgroup.procs", std::to_string(::getpid()));
}

}  // namespace pagetrap::bench::rivals

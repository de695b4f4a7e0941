#include "rivals/memory_group.hpp"

#include <sys/stat.h>
#include <unistd.h>

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
  folder_ = hierarchy.root + "/pagetrap-bench-" + std::to_string(::getpid());
  if (::mkdir(folder_.c_str(), 0755) != 0) {
    reason_ = std::string("no control group can be made: ") + std::strerror(errno);
    folder_.clear();
    return;
  }
  second_version_ = hierarchy.second_version;
  if (!set_limit(limit_bytes)) reason_ = "the control group takes no limit";
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

MemoryGroup::~MemoryGroup() {
  // A child that has just been reaped may still be leaving.
  for (int tries = 0; !folder_.empty() && tries < 100; ++tries) {
    if (::rmdir(folder_.c_str()) == 0 || errno != EBUSY) return;
    ::usleep(10'000);
  }
}

bool MemoryGroup::join() const {
  return put(folder_ + "/cgroup.procs", std::to_string(::getpid()));
}

}  // namespace pagetrap::bench::rivals

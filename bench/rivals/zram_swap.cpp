#include "rivals/zram_swap.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench::rivals {

namespace {

constexpr const char* kControl = "/sys/class/zram-control/";

bool put(const std::string& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  out.flush();
  return static_cast<bool>(out);
}

/// The device, in the keeper. Every step that was done is undone.
class Device {
 public:
  explicit Device(std::size_t size_bytes) { reason_ = set_up(size_bytes); }
  ~Device() {
    if (swaps_) ::swapoff(node_.c_str());
    if (made_node_) ::unlink(node_.c_str());
    if (number_ < 0) return;
    put(folder_ + "reset", "1");
    put(std::string(kControl) + "hot_remove", std::to_string(number_));
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  std::string set_up(std::size_t size_bytes) {
    std::ifstream control(std::string(kControl) + "hot_add");
    if (!(control >> number_)) return "this kernel gives no zram device";
    folder_ = "/sys/block/zram" + std::to_string(number_) + "/";
    if (!put(folder_ + "comp_algorithm", "lz4")) return "this kernel's zram has no LZ4";
    if (!put(folder_ + "disksize", std::to_string(size_bytes)))
      return "the zram device takes no size";
    node_ = "/dev/zram" + std::to_string(number_);
    if (::access(node_.c_str(), F_OK) != 0) {
      std::ifstream numbers(folder_ + "dev");
      unsigned major = 0;
      unsigned minor = 0;
      char colon = 0;
      if (!(numbers >> major >> colon >> minor) ||
          ::mknod(node_.c_str(), S_IFBLK | 0600, ::makedev(major, minor)) != 0)
        return "no device node for zram can be made";
      made_node_ = true;
    }
    if (!write_header(size_bytes)) return "the zram device cannot be written";
    constexpr int kBeforeOthers = 32000;  // the rival must not go elsewhere
    if (is_taken(kBeforeOthers)) return "another benchmark swaps to zram now: run one at a time";
    if (::swapon(node_.c_str(), SWAP_FLAG_PREFER | kBeforeOthers) != 0)
      return std::string("swapon of a zram device: ") + std::strerror(errno);
    swaps_ = true;
    return {};
  }

  /// What mkswap(8) writes.
  [[nodiscard]] bool write_header(std::size_t size_bytes) const {
    std::vector<char> page(page_size());
    const std::array<std::uint32_t, 3> fields{
        1, static_cast<std::uint32_t>(size_bytes / page_size() - 1), 0};
    std::memcpy(page.data() + 1024, fields.data(), sizeof fields);
    std::memcpy(page.data() + page_size() - 10, "SWAPSPACE2", 10);
    const int device = ::open(node_.c_str(), O_WRONLY | O_CLOEXEC);
    if (device < 0) return false;
    const bool written =
        ::pwrite(device, page.data(), page.size(), 0) == static_cast<ssize_t>(page.size()) &&
        ::fsync(device) == 0;
    return ::close(device) == 0 && written;
  }

  /// Whether pages would go to another device as often as to ours.
  static bool is_taken(int priority) {
    std::ifstream swaps("/proc/swaps");
    std::string line;
    while (std::getline(swaps, line)) {
      const std::size_t last = line.find_last_of(" \t");
      if (last != std::string::npos && std::atoi(line.c_str() + last) >= priority) return true;
    }
    return false;
  }

  int number_ = -1;
  bool made_node_ = false;
  bool swaps_ = false;
  std::string folder_;
  std::string node_;
  std::string reason_;
};

struct News {
  int number = -1;
  std::array<char, 120> reason{};
};

[[noreturn]] void keep(std::size_t size_bytes, int commands, int answers) {
  ::setsid();  // whoever kills the measuring process and all its children must leave this one
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  {
    const Device device(size_bytes);
    News news;
    news.number = device.number();
    device.reason().copy(news.reason.data(), news.reason.size() - 1);
    const bool told = ::write(answers, &news, sizeof news) == sizeof news;
    char nothing = 0;
    while (told && ::read(commands, &nothing, 1) < 0 && errno == EINTR) {
    }
  }
  ::_exit(0);
}

}  // namespace

ZramSwap::ZramSwap(std::size_t size_bytes) {
  if (::geteuid() != 0) {
    reason_ = "zram swap needs root";
    return;
  }
  if (::access((std::string(kControl) + "hot_add").c_str(), R_OK) != 0) {
    reason_ = "no zram here: /sys/class/zram-control is missing (modprobe zram)";
    return;
  }
  std::array<int, 2> commands{};
  std::array<int, 2> answers{};
  if (::pipe2(commands.data(), O_CLOEXEC) != 0 || ::pipe2(answers.data(), O_CLOEXEC) != 0) {
    reason_ = "pipe";
    return;
  }
  keeper_ = ::fork();
  if (keeper_ == 0) {
    ::close(commands[1]);
    ::close(answers[0]);
    keep(size_bytes, commands[0], answers[1]);
  }
  ::close(commands[0]);
  ::close(answers[1]);
  to_keeper_ = commands[1];
  News news;
  if (keeper_ < 0 || ::read(answers[0], &news, sizeof news) != sizeof news) {
    reason_ = "no process to keep the zram device";
  } else {
    reason_ = news.reason.data();
    number_ = news.number;
  }
  ::close(answers[0]);
}

ZramSwap::~ZramSwap() {
  if (keeper_ <= 0) return;
  ::close(to_keeper_);
  while (::waitpid(keeper_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::size_t ZramSwap::pool_bytes() const {
  std::ifstream statistics("/sys/block/zram" + std::to_string(number_) + "/mm_stat");
  std::size_t original = 0;
  std::size_t compressed = 0;
  std::size_t used = 0;
  statistics >> original >> compressed >> used;
  return used;
}

}  // namespace pagetrap::bench::rivals

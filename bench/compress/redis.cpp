// compress.run.redis_*: an unmodified redis-server that holds values in JSON, asked for one after
// the other by a client of our own.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <random>
#include <string_view>

#include "compress/program_sides.hpp"
#include "compress/questions.hpp"
#include "compress/records.hpp"
#include "compress/text.hpp"
#include "harness/clock.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kTextBytes = 16 << 20;

/// What is stored, and in which order it is asked for.
struct Values {
  std::vector<std::string> all;
  std::vector<std::uint32_t> draws;  // by Zipf's law
};

std::string key_of(std::size_t number) { return "user:" + std::to_string(1'000'000 + number); }

/// A folder for the server's socket, until the client has found it.
class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "pagetrap-redis-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no folder for a socket");
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string socket() const { return path_ + "/socket"; }

 private:
  std::string path_;
};

/// As much of a client as this needs.
class Client {
 public:
  Client() = default;
  ~Client() {
    if (socket_ >= 0) close(socket_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return false;
    path.copy(address.sun_path, path.size());
    if (socket_ < 0) socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }

  static void add_word(std::string& text, std::string_view word) {
    text.append("$").append(std::to_string(word.size())).append("\r\n");
    text.append(word).append("\r\n");
  }

  bool send_all(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  /// A line, valid until the next call.
  bool line(std::string_view& found) {
    std::size_t end = 0;
    while ((end = text().find("\r\n")) == std::string_view::npos)
      if (!more()) return false;
    found = take(end);
    return true;
  }

  /// A string of a reply, valid until the next call.
  bool string(std::string_view& found) {
    std::string_view head;
    if (!line(head)) return false;
    if (head.empty() || head[0] != '$')
      throw std::runtime_error("no string, but " + std::string(head));
    const long size = std::strtol(head.data() + 1, nullptr, 10);
    if (size < 0) throw std::runtime_error("redis-server has lost a value");
    while (text().size() < static_cast<std::size_t>(size) + 2)
      if (!more()) return false;
    found = take(static_cast<std::size_t>(size));
    return true;
  }

 private:
  [[nodiscard]] std::string_view text() const { return {buffer_.data() + used_, held_ - used_}; }
  std::string_view take(std::size_t size) {
    const std::string_view taken = text().substr(0, size);
    used_ += size + 2;
    return taken;
  }
  bool more() {
    std::copy(buffer_.data() + used_, buffer_.data() + held_, buffer_.data());
    held_ -= used_;
    used_ = 0;
    const ssize_t got = ::recv(socket_, buffer_.data() + held_, buffer_.size() - held_, 0);
    if (got > 0) held_ += static_cast<std::size_t>(got);
    return got > 0;
  }

  int socket_ = -1;
  std::size_t used_ = 0;
  std::size_t held_ = 0;
  std::array<char, 65536> buffer_{};
};

class Redis final : public Subject {
 public:
  Redis(const std::string& path, const Words& prefix, const std::function<bool()>& before,
        const Values& values, std::size_t operations)
      : values_(values),
        operations_(operations),
        folder_(std::in_place),
        server_(words(path, prefix, *folder_), before) {}

  /// False: it has ended.
  bool fill() {
    constexpr int kMostTries = 2000;
    for (int tries = 0; !client_.connect_to(folder_->socket()); ++tries) {
      if (!server_.runs() || tries == kMostTries) return false;
      usleep(5'000);
    }
    folder_.reset();  // now, since a question that is skipped ends without destructors
    constexpr std::size_t kAtOnce = 200;  // their answers fit into the socket
    std::string text;
    for (std::size_t i = 0; i < values_.all.size();) {
      text.clear();
      const std::size_t end = std::min(i + kAtOnce, values_.all.size());
      const std::size_t count = end - i;
      for (; i < end; ++i) {
        text += "*3\r\n$3\r\nSET\r\n";
        Client::add_word(text, key_of(i));
        Client::add_word(text, values_.all[i]);
      }
      if (!client_.send_all(text)) return false;
      std::string_view answer;
      for (std::size_t answers = 0; answers < count; ++answers) {
        if (!client_.line(answer)) return false;
        if (answer != "+OK") throw std::runtime_error("redis-server: " + std::string(answer));
      }
    }
    return true;
  }

  bool measure(double& cost) override {
    bool alive = true;
    cost = time_ns([&] {
             for (std::size_t i = 0; i < operations_ && alive; ++i) alive = get_next();
           }) /
           static_cast<double>(operations_);
    return alive;
  }

  Program& program() override { return server_; }

 private:
  static Words words(const std::string& path, const Words& prefix, const Folder& folder) {
    Words all = prefix;
    for (const char* const word :
         {path.c_str(), "--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning",
          "--dir", folder.path().c_str(), "--unixsocket"})
      all.emplace_back(word);
    all.push_back(folder.socket());
    return all;
  }

  bool get_next() {
    at_ = (at_ + 1) % values_.draws.size();
    const std::size_t number = values_.draws[at_];
    request_ = "*2\r\n$3\r\nGET\r\n";
    Client::add_word(request_, key_of(number));
    std::string_view value;
    if (!client_.send_all(request_) || !client_.string(value)) return false;
    if (value != values_.all[number]) throw std::runtime_error("redis-server has another value");
    return true;
  }

  const Values& values_;
  std::size_t operations_;
  std::optional<Folder> folder_;
  Program server_;
  Client client_;
  std::string request_;
  std::size_t at_ = 0;
};

constexpr const char* kBound =
    "a fault of 8 us and a freeze with its TLB shootdown for each page that leaves (redis-server "
    "has "
    "threads), and the pinning of buffers for each system call";

using Against = void (*)(const Effort&, Report&, double share, const Start&);

void measure(const Effort& effort, Report& report, Against against) {
  const std::string path = find_program("redis-server");
  if (path.empty()) report.skip("redis-server is not installed (tools/install-rivals)");
  const auto text = text_lines(kTextBytes);
  if (text.size() < kEnoughLines) report.skip("not enough text in /usr/include and /usr/share/doc");
  Values values;
  std::mt19937_64 random(3);
  // A little less than a power of two: the server's hash table has grown by then, step by step.
  const std::size_t count = effort.quick ? 131'000 : 262'000;
  while (values.all.size() < count)
    values.all.push_back(json_value(text, 1'000'000 + values.all.size(), random));
  values.draws = draw_zipf(count, 1 << 18);
  report.parameter("values", static_cast<double>(count));
  const std::size_t operations = 4'000;
  against(
      effort, report, 0.5,
      [&](const Words& prefix, const std::function<bool()>& before) -> std::unique_ptr<Subject> {
        auto redis = std::make_unique<Redis>(path, prefix, before, values, operations);
        return redis->fill() ? std::move(redis) : nullptr;
      });
}

}  // namespace

void add_redis(Questions& questions) {
  questions.push_back(
      {.id = "compress.run.redis_zipf_50",
       .asks = "a GET of JSON by Zipf's law, half of redis-server in memory",
       .ours = "redis-server under `pagetrap run --delivery signals --memory`",
       .rival = "redis-server, zram (LZ4) swap in a memory control group, as many bytes in all",
       .unit = "ns",
       .target = 0.8,
       .measure = [](const Effort& e, Report& r) { measure(e, r, against_zram); },
       .scheduling = Scheduling::fair_group,
       .bound = kBound});
  questions.push_back(
      {.id = "compress.run.redis_zipf_50.unlimited",
       .asks = "the same beside redis-server by itself",
       .ours = "redis-server under `pagetrap run --delivery signals --memory`, half of its pages "
               "in memory",
       .rival = "redis-server, all in memory",
       .unit = "ns",
       .target = 1.2,
       .measure = [](const Effort& e, Report& r) { measure(e, r, against_unlimited); },
       .scheduling = Scheduling::fair_group,
       .bound = kBound});
}

}  // namespace pagetrap::bench

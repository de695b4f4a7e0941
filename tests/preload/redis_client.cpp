#include "redis_client.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace pagetrap::preload::test {
namespace {

sockaddr_in loopback(unsigned short port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

std::string encoded(const std::vector<std::string>& words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words)
    text += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  return text;
}

void send_all(int socket, const std::string& text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t done = send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (done <= 0) throw std::runtime_error("redis: send");
    sent += static_cast<std::size_t>(done);
  }
}

}  // namespace

RedisClient::RedisClient(unsigned short port) {
  const sockaddr_in address = loopback(port);
  for (int tries = 0;; ++tries) {
    socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) break;
    close(socket_);
    socket_ = -1;
    if (tries == 200) throw std::runtime_error("redis: connect");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const timeval patience{30, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  while (ask({"INFO", "persistence"}).find("\nloading:0") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

RedisClient::~RedisClient() {
  if (socket_ >= 0) close(socket_);
}

char RedisClient::next() {
  if (used_ == buffer_.size()) {
    std::array<char, 65536> bytes{};
    const ssize_t got = recv(socket_, bytes.data(), bytes.size(), 0);
    if (got <= 0) throw std::runtime_error("redis: the server is gone, or silent");
    buffer_.assign(bytes.data(), static_cast<std::size_t>(got));
    used_ = 0;
  }
  return buffer_[used_++];
}

std::string RedisClient::line() {
  std::string text;
  while (!text.ends_with("\r\n")) text += next();
  text.resize(text.size() - 2);
  return text;
}

std::string RedisClient::reply() {
  const std::string first = line();
  if (first[0] != '$') return first[0] == '+' ? first.substr(1) : first;
  const long size = std::stol(first.substr(1));
  std::string text;
  for (long i = 0; i < size + 2 && size >= 0; ++i) text += next();
  if (size >= 0) text.resize(text.size() - 2);
  return text;
}

std::string RedisClient::ask(const std::vector<std::string>& words) {
  send_all(socket_, encoded(words));
  return reply();
}

void RedisClient::ask_all(const std::vector<std::vector<std::string>>& commands) {
  std::string text;
  for (const auto& words : commands) text += encoded(words);
  send_all(socket_, text);
  for (std::size_t i = 0; i < commands.size(); ++i)
    if (const std::string answer = reply(); answer.starts_with("-"))
      throw std::runtime_error("redis: " + answer);
}

void RedisClient::tell(const std::vector<std::string>& words) { send_all(socket_, encoded(words)); }

unsigned short free_port() {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  const bool bound = bind(probe, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  close(probe);
  if (!bound) throw std::runtime_error("no port is free");
  return ntohs(address.sin_port);
}

}  // namespace pagetrap::preload::test

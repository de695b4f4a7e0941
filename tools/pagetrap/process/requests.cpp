#include "requests.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace pagetrap::tool::process {
namespace {

socklen_t address_of(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);  // abstract: after a zero byte
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

// Only this user's, and root's.
bool may_ask(int requester) {
  ucred who{};
  socklen_t length = sizeof who;
  return ::getsockopt(requester, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 &&
         (who.uid == 0 || who.uid == ::getuid());
}

// A line, and the descriptor that came with it.
std::string receive(int requester, int& descriptor) {
  std::array<char, 64> line{};
  iovec part{line.data(), line.size() - 1};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(requester, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) return {};
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS)
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return std::string(line.data(), static_cast<std::size_t>(got));
}

}  // namespace

std::string socket_of(pid_t process) { return "pagetrap-checkpoint-" + std::to_string(process); }

std::string new_socket() {
  std::random_device source;
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "pagetrap-%08x%08x", source(), source());
  return name.data();
}

int listen_at(const std::string& name) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  const socklen_t length = address_of(name, address);
  if (socket < 0) return -1;
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
      ::listen(socket, 8) == 0)
    return socket;
  ::close(socket);
  return -1;
}

Request take_request(int listener) {
  Request request;
  const int requester = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (requester < 0) return request;
  const timeval patience{1, 0};
  ::setsockopt(requester, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const std::string line = receive(requester, request.event);
  const std::string word = line.substr(0, line.find_first_of(" \n"));
  if (line.find(' ') != std::string::npos)
    request.address = std::strtoull(line.c_str() + line.find(' '), nullptr, 16);
  if (may_ask(requester)) {
    if (word == "next") request.kind = Request::Kind::next;
    if (word == "full") request.kind = Request::Kind::full;
    if (word == "self") request.kind = Request::Kind::self;
    if (word == "hooks" && request.event >= 0) request.kind = Request::Kind::hooks;
  }
  if (request.kind == Request::Kind::next || request.kind == Request::Kind::full) {
    request.requester = requester;
    return request;
  }
  const bool known = request.kind != Request::Kind::none || word == "hello";
  const char* const answer = known ? "ok\n" : "what?\n";
  // The process closes its end before it waits: a cut could not have it.
  static_cast<void>(::send(requester, answer, std::strlen(answer), MSG_NOSIGNAL) < 0);
  char nothing = 0;
  static_cast<void>(::recv(requester, &nothing, 1, 0) < 0);
  ::close(requester);
  return request;
}

std::string ask_for_checkpoint(pid_t process, bool full) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  const socklen_t length = address_of(socket_of(process), address);
  std::string answer;
  if (socket >= 0 && ::connect(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0) {
    const char* const words = full ? "full\n" : "next\n";
    if (::send(socket, words, std::strlen(words), MSG_NOSIGNAL) > 0) {
      std::array<char, 4096> bytes{};
      for (;;) {
        const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        answer.append(bytes.data(), static_cast<std::size_t>(got));
      }
    }
    if (answer.empty()) answer = "error: the process has ended, or is another user's\n";
  }
  if (socket >= 0) ::close(socket);
  return answer;
}

}  // namespace pagetrap::tool::process

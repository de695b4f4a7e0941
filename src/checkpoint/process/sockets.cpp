#include "checkpoint/process/sockets.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "checkpoint/process/census.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

int option(int socket, int which) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, which, &value, &length) == 0 ? value : -1;
}

std::string text_of(const sockaddr_storage& address, socklen_t length) {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET, &in.sin_addr, host.data(), host.size());
    return std::string(host.data()) + ":" + std::to_string(ntohs(in.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET6, &in.sin6_addr, host.data(), host.size());
    return "[" + std::string(host.data()) + "]:" + std::to_string(ntohs(in.sin6_port));
  }
  if (address.ss_family == AF_UNIX) {
    sockaddr_un un{};
    std::memcpy(&un, &address, sizeof un);
    const std::size_t bytes = length - offsetof(sockaddr_un, sun_path);
    if (length <= offsetof(sockaddr_un, sun_path)) return "without a name";
    if (un.sun_path[0] == '\0') return "@" + std::string(un.sun_path + 1, bytes - 1);
    return std::string(un.sun_path, ::strnlen(un.sun_path, bytes));
  }
  return "of family " + std::to_string(address.ss_family);
}

std::string kind_of(int socket) {
  const int domain = option(socket, SO_DOMAIN);
  const int type = option(socket, SO_TYPE);
  if (domain == AF_UNIX) return "unix socket";
  if (domain == AF_NETLINK) return "netlink socket";
  if (domain == AF_PACKET) return "packet socket";
  if (domain != AF_INET && domain != AF_INET6) return "socket";
  if (type == SOCK_STREAM) return "TCP socket";
  if (type == SOCK_DGRAM) return "UDP socket";
  return "raw socket";
}

}  // namespace

std::string describe_socket(int pidfd, int number) {
  const auto socket = take_descriptor(pidfd, number);
  if (!socket) return "socket";
  const std::string kind = kind_of(socket->get());
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(socket->get(), reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
      text_of(address, length) != "without a name")
    return kind + " " + text_of(address, length);
  length = sizeof address;
  address = {};
  if (::getsockname(socket->get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return kind;
  return kind + " " + (option(socket->get(), SO_ACCEPTCONN) == 1 ? "listening at " : "") +
         text_of(address, length);
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

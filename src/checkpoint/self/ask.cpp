#include "checkpoint/self/ask.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <pagetrap/checkpoint/protocol.hpp>

#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

Error nobody() {
  return Error{"checkpoint()", ENOTCONN, {}, "run the program with `pagetrap run --checkpoint`"};
}

}  // namespace

Result<Done> ask_supervisor(const char* word, const void* address, int descriptor) noexcept {
  const char* const name = std::getenv(protocol::kVariable);
  if (name == nullptr || *name == '\0') return nobody();
  const sys::Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error{"socket", errno};
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const std::size_t length = ::strnlen(name, sizeof to.sun_path - 1);
  std::memcpy(to.sun_path + 1, name, length);  // abstract: after a zero byte
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to),
                static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)) != 0)
    return nobody();
  std::array<char, 64> line{};
  const int size = std::snprintf(line.data(), line.size(), "%s %lx\n", word,
                                 reinterpret_cast<unsigned long>(address));
  iovec part{line.data(), static_cast<std::size_t>(size)};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) != size) return nobody();
  std::array<char, 8> answer{};
  for (;;) {
    const ssize_t got = ::recv(socket.get(), answer.data(), answer.size() - 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || std::strcmp(answer.data(), "ok\n") != 0) return nobody();
    return Done{};
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

// What no image can have: sockets, other processes, watchers of the kernel's.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "stage.hpp"

namespace subject {
namespace {

std::string fd(int number) { return "fd " + std::to_string(number) + ": "; }

int make_socket(int family, int type, int protocol = 0) {
  return static_cast<int>(must(::socket(family, type, protocol), "socket"));
}

int bind_local(int socket) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  must(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  socklen_t length = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin_port);
}
std::string local(int port) { return "127.0.0.1:" + std::to_string(port); }

const Registered kTcp("obstacle_tcp", [](Stage& stage) {
  const int socket = make_socket(AF_INET, SOCK_STREAM);
  stage.obstacle(fd(socket) + "TCP socket 0.0.0.0:0", [=] { ::close(socket); });
});
const Registered kListening("obstacle_tcp_listening", [](Stage& stage) {
  const int socket = make_socket(AF_INET, SOCK_STREAM);
  const int port = bind_local(socket);
  must(::listen(socket, 1), "listen");
  stage.obstacle(fd(socket) + "TCP socket listening at " + local(port), [=] { ::close(socket); });
});
const Registered kConnected("obstacle_tcp_connected", [](Stage& stage) {
  const int listener = make_socket(AF_INET, SOCK_STREAM);
  const int port = bind_local(listener);
  must(::listen(listener, 1), "listen");
  const int socket = make_socket(AF_INET, SOCK_STREAM);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  must(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
  const int accepted = static_cast<int>(must(::accept(listener, nullptr, nullptr), "accept"));
  ::close(listener);
  socklen_t length = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  stage.obstacle(fd(socket) + "TCP socket " + local(port) + "\n" + fd(accepted) + "TCP socket " +
                     local(ntohs(address.sin_port)),
                 [=] {
                   ::close(socket);
                   ::close(accepted);
                 });
});
const Registered kTcp6("obstacle_tcp6", [](Stage& stage) {
  const int socket = ::socket(AF_INET6, SOCK_STREAM, 0);
  if (socket < 0) stage.skip("no IPv6");
  stage.obstacle(fd(socket) + "TCP socket [::]:0", [=] { ::close(socket); });
});
const Registered kUdp("obstacle_udp", [](Stage& stage) {
  const int socket = make_socket(AF_INET, SOCK_DGRAM);
  const int port = bind_local(socket);
  stage.obstacle(fd(socket) + "UDP socket " + local(port), [=] { ::close(socket); });
});
const Registered kPair("obstacle_socket_pair", [](Stage& stage) {
  std::array<int, 2> pair{};
  must(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), "socketpair");
  stage.obstacle(
      fd(pair[0]) + "unix socket without a name\n" + fd(pair[1]) + "unix socket without a name",
      [=] {
        ::close(pair[0]);
        ::close(pair[1]);
      });
});
const Registered kUnix("obstacle_unix_listening", [](Stage& stage) {
  const int socket = make_socket(AF_UNIX, SOCK_STREAM);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = stage.file("socket");
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  must(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  must(::listen(socket, 1), "listen");
  stage.obstacle(fd(socket) + "unix socket listening at " + path, [=] { ::close(socket); });
});
const Registered kAbstract("obstacle_unix_abstract", [](Stage& stage) {
  const int socket = make_socket(AF_UNIX, SOCK_DGRAM);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "pagetrap-subject-" + std::to_string(::getpid());
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  must(::bind(socket, reinterpret_cast<sockaddr*>(&address), length), "bind");
  stage.obstacle(fd(socket) + "unix socket @" + name, [=] { ::close(socket); });
});
const Registered kNetlink("obstacle_netlink", [](Stage& stage) {
  const int socket = make_socket(AF_NETLINK, SOCK_RAW, 0);
  stage.obstacle(fd(socket) + "netlink socket of family 16", [=] { ::close(socket); });
});

const Registered kChild("obstacle_child", [](Stage& stage) {
  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  stage.obstacle("child process " + std::to_string(child) + " (process_subject)", [=] {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  });
});
const Registered kZombie("obstacle_zombie", [](Stage& stage) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  stage.obstacle("child process " + std::to_string(child) + " (process_subject)",
                 [=] { ::waitpid(child, nullptr, 0); });
});
const Registered kOtherPipe("obstacle_pipe_to_another", [](Stage& stage) {
  std::array<int, 2> ends{};
  must(::pipe(ends.data()), "pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    // Not a child any more: one of init's, or of whoever reaps.
    if (::fork() != 0) ::_exit(0);
    char name[] = "elsewhere";
    ::prctl(PR_SET_NAME, name, 0, 0, 0);
    while (!stage.was_told("taken-away")) sleep_ms(1);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  ::close(ends[1]);
  stage.obstacle(fd(ends[0]) + "pipe to another process", [=] { ::close(ends[0]); });
});

const Registered kInotify("obstacle_inotify", [](Stage& stage) {
  const int number = static_cast<int>(must(::inotify_init1(0), "inotify_init1"));
  stage.obstacle(fd(number) + "inotify", [=] { ::close(number); });
});
const Registered kFanotify("obstacle_fanotify", [](Stage& stage) {
  const int number = ::fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
  if (number < 0) stage.skip("no fanotify");
  stage.obstacle(fd(number) + "[fanotify]", [=] { ::close(number); });
});
const Registered kUserfaultfd("obstacle_userfaultfd", [](Stage& stage) {
  const int number = static_cast<int>(::syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY));
  if (number < 0) stage.skip("no userfaultfd");
  stage.obstacle(fd(number) + "[userfaultfd]", [=] { ::close(number); });
});
const Registered kPerf("obstacle_perf", [](Stage& stage) {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_TASK_CLOCK;
  const int number = static_cast<int>(::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
  if (number < 0) stage.skip("no perf events");
  stage.obstacle(fd(number) + "[perf_event]", [=] { ::close(number); });
});
const Registered kPidfd("obstacle_pidfd", [](Stage& stage) {
  const int number = static_cast<int>(must(::syscall(SYS_pidfd_open, ::getpid(), 0), "pidfd_open"));
  std::array<char, 64> link{};
  const std::string path = "/proc/self/fd/" + std::to_string(number);
  must(::readlink(path.c_str(), link.data(), link.size() - 1), "readlink");
  const std::string name = link.data();
  stage.obstacle(fd(number) + (name.starts_with("anon_inode:") ? name.substr(11) : name),
                 [=] { ::close(number); });
});
const Registered kUring("obstacle_io_uring", [](Stage& stage) {
  io_uring_params parameters{};
  const int number = static_cast<int>(::syscall(SYS_io_uring_setup, 4, &parameters));
  if (number < 0) stage.skip("no io_uring");
  stage.obstacle(fd(number) + "[io_uring]", [=] { ::close(number); });
});
const Registered kTrap("obstacle_trap_ignored", [](Stage& stage) {
  ::signal(SIGTRAP, SIG_IGN);
  bool still = false;
  stage.obstacle("SIGTRAP is ignored", [&] {
    struct sigaction now {};
    ::sigaction(SIGTRAP, nullptr, &now);
    still = now.sa_handler == SIG_IGN;
    ::signal(SIGTRAP, SIG_DFL);
  });
  stage.expect(still, "it was ignored after the refusal");
});
// None of these can be taken back: the process ends with them.
const Registered kSeccomp("forever_seccomp", [](Stage& stage) {
  must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  // A filter that allows all.
  struct {
    std::uint16_t code;
    std::uint8_t yes, no;
    std::uint32_t value;
  } allow{0x06, 0, 0, 0x7fff0000};
  struct {
    unsigned short length;
    void* filter;
  } program{1, &allow};
  must(::prctl(PR_SET_SECCOMP, 2, &program, 0, 0), "PR_SET_SECCOMP");
  stage.say("line", "a seccomp filter");
  stage.wait_for_go();
});
const Registered kNet("forever_network", [](Stage& stage) {
  if (::unshare(CLONE_NEWNET) != 0) stage.skip("no namespaces");
  stage.say("line", "a namespace of its own: net");
  stage.wait_for_go();
});
const Registered kMounts("forever_mounts", [](Stage& stage) {
  if (::unshare(CLONE_NEWNS) != 0) stage.skip("no namespaces");
  stage.say("line", "a namespace of its own: mnt");
  stage.wait_for_go();
});
const Registered kRoot("forever_root", [](Stage& stage) {
  // Its folder stays reachable: what it is told and says is there.
  if (::chdir(stage.folder().c_str()) != 0 || ::chroot("/tmp") != 0) stage.skip("no chroot");
  Stage inside(stage.folder().substr(4));
  inside.say("line", "a root directory of its own: /tmp");
  inside.wait_for_go();
  ::_exit(inside.verdict());
});

}  // namespace
}  // namespace subject

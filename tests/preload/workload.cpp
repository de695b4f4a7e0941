// A program that knows nothing of pagetrap: it uses more memory than it may have, in the ways that
// programs do, and checks every word.
//
//   workload CASE MEBIBYTES     0: all as it should be; 1: not, with a line that says what
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kMebibyte = std::size_t{1} << 20;
constexpr std::size_t kPage = 4096;

[[noreturn]] void fail(const char* what, std::size_t where = 0) {
  std::printf("FAILED: %s at %zu (errno %d)\n", what, where, errno);
  std::fflush(stdout);
  std::_Exit(1);
}

void require(bool right, const char* what, std::size_t where = 0) {
  if (!right) fail(what, where);
}

/// What word `index` is in generation `generation`: compresses about two to one.
std::uint64_t word(std::uint64_t index, std::uint64_t generation) {
  const std::uint64_t mixed = (index * 0x9E3779B97F4A7C15U) ^ (generation << 17);
  return index % 2 == 0 ? mixed & 0xFFFFFF : generation;
}

void write_words(std::uint64_t* words, std::size_t from, std::size_t to, std::uint64_t generation) {
  for (std::size_t i = from; i < to; ++i) words[i] = word(i, generation);
}

void check_words(const std::uint64_t* words, std::size_t from, std::size_t to,
                 std::uint64_t generation, const char* what) {
  for (std::size_t i = from; i < to; ++i)
    if (words[i] != word(i, generation)) fail(what, i);
}

std::uint64_t* map_words(std::size_t bytes) {
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "mmap");
  return static_cast<std::uint64_t*>(memory);
}

/// Makes what was touched long ago leave, as far as there is a budget.
void push_out(std::size_t bytes) {
  static std::uint64_t generation = 1000;
  std::uint64_t* const other = map_words(bytes);
  write_words(other, 0, bytes / 8, ++generation);
  check_words(other, 0, bytes / 8, generation, "what pushes others out");
  require(munmap(other, bytes) == 0, "munmap");
}

// --- cases ------------------------------------------------------------------------------------

void array(std::size_t bytes) {
  const std::size_t words = bytes / 8;
  auto memory = std::make_unique<std::uint64_t[]>(words);
  write_words(memory.get(), 0, words, 1);
  check_words(memory.get(), 0, words, 1, "first pass");
  // Every third page again, in another order.
  for (std::size_t page = 0; page < bytes / kPage; page += 3)
    write_words(memory.get(), page * 512, page * 512 + 512, 2);
  for (std::size_t page = 0; page < bytes / kPage; ++page)
    check_words(memory.get(), page * 512, page * 512 + 512, page % 3 == 0 ? 2 : 1, "second pass");
}

void small_blocks(std::size_t bytes) {
  std::map<std::uint64_t, std::string> all;
  const std::size_t count = bytes / 512;
  for (std::uint64_t i = 0; i < count; ++i)
    all[i * 7919 % count] = std::string(100 + i % 60, static_cast<char>('a' + i % 26));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string& text = all[i * 7919 % count];
    require(text == std::string(100 + i % 60, static_cast<char>('a' + i % 26)), "a string", i);
  }
}

void threads(std::size_t bytes) {
  constexpr std::size_t kThreads = 4;
  const std::size_t words = bytes / 8 / kThreads;
  std::uint64_t* const memory = map_words(words * 8 * kThreads);
  struct Shared {
    std::mutex lock;
    std::condition_variable turn;
    std::uint64_t count = 0;
    std::atomic<int> finished{0};
  };
  // On the heap: waiting on words that may have been evicted.
  std::vector<std::unique_ptr<Shared>> shared;
  for (int i = 0; i < 64; ++i) {
    shared.push_back(std::make_unique<Shared>());
    static_cast<void>(new char[8192]);  // a page of its own for each
  }
  for (std::uint64_t round = 1; round <= 3; ++round) {
    std::vector<std::thread> workers;
    for (std::size_t me = 0; me < kThreads; ++me) {
      workers.emplace_back([&, me] {
        std::uint64_t* const mine = memory + me * words;
        write_words(mine, 0, words, round);
        for (auto& one : shared) {
          std::unique_lock held(one->lock);
          one->count += 1;
          if (one->count % kThreads == 0) {
            one->turn.notify_all();
          } else {
            const std::uint64_t goal = (one->count / kThreads + 1) * kThreads;
            one->turn.wait(held, [&] { return one->count >= goal; });
          }
        }
        check_words(mine, 0, words, round, "a thread's words");
        for (auto& one : shared) {
          const int goal = static_cast<int>(round * kThreads);
          if (one->finished.fetch_add(1) + 1 == goal) one->finished.notify_all();
          for (int seen = one->finished; seen < goal; seen = one->finished)
            one->finished.wait(seen);
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
  }
  for (auto& one : shared) require(one->count == 3 * kThreads, "a shared counter");
}

void forks(std::size_t bytes) {
  const std::size_t words = bytes / 8;
  std::uint64_t* const memory = map_words(bytes);
  write_words(memory, 0, words, 1);
  FILE* const file = std::tmpfile();  // the C library's own data
  require(file != nullptr, "tmpfile");
  push_out(bytes);
  for (std::uint64_t round = 0; round < 3; ++round) {
    std::fflush(stdout);
    const pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
      check_words(memory, 0, words, 1 + round, "the child's copy");
      write_words(memory, 0, words / 2, 77);
      check_words(memory, 0, words / 2, 77, "the child's own words");
      check_words(memory, words / 2, words, 1 + round, "the child's other words");
      require(std::fputs("child\n", file) >= 0 && std::fflush(file) == 0, "the child's file");
      std::_Exit(0);
    }
    // At once: the child must not see it.
    write_words(memory, 0, words, 2 + round);
    int status = -1;
    require(waitpid(child, &status, 0) == child && status == 0, "the child's status",
            static_cast<std::size_t>(status));
    check_words(memory, 0, words, 2 + round, "the parent's words");
  }
  const int status = std::system("exit 7");
  require(WIFEXITED(status) && WEXITSTATUS(status) == 7, "system()");
}

// Others go on writing, and fault, while one thread forks.
void forks_among_threads(std::size_t bytes) {
  constexpr std::size_t kThreads = 2;
  const std::size_t words = bytes / 8 / (kThreads + 1);
  std::uint64_t* const memory = map_words(words * 8 * (kThreads + 1));
  write_words(memory, 0, words, 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (std::size_t me = 1; me <= kThreads; ++me) {
    workers.emplace_back([&, me] {
      std::uint64_t* const mine = memory + me * words;
      for (std::uint64_t round = 1; !stop; ++round) {
        write_words(mine, 0, words, round);
        check_words(mine, 0, words, round, "a thread beside fork()");
      }
    });
  }
  for (int round = 0; round < 12; ++round) {
    const pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
      alarm(40);
      check_words(memory, 0, words, 1, "the child's copy");
      // malloc's locks must be free here too.
      auto own = std::make_unique<std::uint64_t[]>(words / 4);
      write_words(own.get(), 0, words / 4, 3);
      check_words(own.get(), 0, words / 4, 3, "what the child allocated");
      std::_Exit(0);
    }
    int status = -1;
    require(waitpid(child, &status, 0) == child && status == 0, "the child's status",
            static_cast<std::size_t>(status));
  }
  stop = true;
  for (std::thread& worker : workers) worker.join();
  check_words(memory, 0, words, 1, "the parent's words");
}

// What cannot be compressed does not fit: slow, and right.
void noise(std::size_t bytes) {
  std::uint64_t* const memory = map_words(bytes);
  const auto random = [](std::uint64_t index) {
    std::uint64_t mixed = index + 0x9E3779B97F4A7C15U;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
    return mixed ^ (mixed >> 31);
  };
  for (std::size_t i = 0; i < bytes / 8; ++i) memory[i] = random(i);
  for (int pass = 0; pass < 4; ++pass)
    for (std::size_t i = 0; i < bytes / 8; ++i) require(memory[i] == random(i), "noise", i);
}

void system_calls(std::size_t bytes) {
  char* const memory = reinterpret_cast<char*>(map_words(bytes));
  const std::size_t pages = bytes / kPage;
  std::memset(memory, 'x', bytes);
  push_out(bytes);
  std::array<int, 2> ends{};
  require(pipe(ends.data()) == 0, "pipe");
  std::array<char, kPage> line{};
  const int from = socket(AF_INET, SOCK_DGRAM, 0);
  const int to = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  require(bind(to, reinterpret_cast<sockaddr*>(&address), length) == 0, "bind");
  require(getsockname(to, reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
  timeval patience{5, 0};
  require(setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0, "setsockopt");
  for (std::size_t page = 0; page + 8 < pages; page += 8) {
    char* const at = memory + page * kPage;
    line.fill(static_cast<char>('a' + page / 8 % 26));
    // read
    require(write(ends[1], line.data(), kPage) == static_cast<ssize_t>(kPage), "write");
    require(read(ends[0], at, kPage) == static_cast<ssize_t>(kPage), "read", page);
    require(std::memcmp(at, line.data(), kPage) == 0, "what was read", page);
    // a datagram, once lost for ever lost
    require(
        sendto(from, line.data(), 1000, 0, reinterpret_cast<sockaddr*>(&address), length) == 1000,
        "sendto");
    require(recv(to, at + kPage, kPage, 0) == 1000, "recv", page);
    require(std::memcmp(at + kPage, line.data(), 1000) == 0, "the datagram", page);
    // recvmsg in two parts, on the edge of two pages
    std::array<iovec, 2> parts{{{at + 3 * kPage - 100, 200}, {at + 4 * kPage, 800}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    require(
        sendto(from, line.data(), 1000, 0, reinterpret_cast<sockaddr*>(&address), length) == 1000,
        "sendto");
    require(recvmsg(to, &message, 0) == 1000, "recvmsg", page);
    require(at[3 * kPage - 100] == line[0] && at[3 * kPage + 99] == line[0] &&
                at[4 * kPage + 799] == line[0] && at[3 * kPage + 100] == 'x',
            "the scattered datagram", page);
    // several datagrams at once, into absent pages and out of others
    std::array<iovec, 2> places{{{at + 5 * kPage, 600}, {at + 7 * kPage, 600}}};
    std::array<mmsghdr, 2> messages{};
    for (std::size_t i = 0; i < 2; ++i) {
      messages[i].msg_hdr.msg_iov = &places[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_name = &address;
      messages[i].msg_hdr.msg_namelen = length;
    }
    require(sendmmsg(from, messages.data(), 2, 0) == 2 && messages[1].msg_len == 600, "sendmmsg");
    for (mmsghdr& one : messages) one.msg_hdr.msg_namelen = 0;
    std::memset(at + 5 * kPage, 'z', 600);
    timespec limit{5, 0};
    require(recvmmsg(to, messages.data(), 2, MSG_WAITFORONE, &limit) == 2, "recvmmsg", page);
    require(at[5 * kPage] == 'x' && at[5 * kPage + 599] == 'x' && at[7 * kPage + 599] == 'x' &&
                messages[0].msg_len == 600,
            "what recvmmsg brought", page);
    // write, from a page that was evicted
    require(write(ends[1], at + 6 * kPage, 100) == 100, "write from an absent page", page);
    require(readv(ends[0], parts.data(), 1) == 100, "readv", page);
    require(parts[0].iov_base != nullptr && at[3 * kPage - 100] == 'x', "what readv read", page);
  }
  // A blocking call whose buffer leaves meanwhile.
  std::thread late([&] {
    push_out(bytes);
    require(sendto(from, "late", 4, 0, reinterpret_cast<sockaddr*>(&address), length) == 4,
            "sendto");
  });
  require(recv(to, memory, kPage, 0) == 4, "recv that waited");
  late.join();
  require(std::memcmp(memory, "late", 4) == 0, "the late datagram");
  // stdio, with a large read into evicted memory
  FILE* const file = std::tmpfile();
  require(file != nullptr && std::fwrite(memory, 1, bytes / 2, file) == bytes / 2, "fwrite");
  push_out(bytes);
  std::rewind(file);
  std::vector<char> again(bytes / 2);
  push_out(bytes);
  require(std::fread(again.data(), 1, bytes / 2, file) == bytes / 2, "fread");
  require(std::memcmp(again.data(), memory, bytes / 2) == 0, "what fread read");
  std::fclose(file);
}

void mappings(std::size_t bytes) {
  const std::size_t words = bytes / 8;
  std::uint64_t* memory = map_words(bytes);
  write_words(memory, 0, words, 1);
  // grows, perhaps elsewhere
  memory = static_cast<std::uint64_t*>(mremap(memory, bytes, 2 * bytes, MREMAP_MAYMOVE));
  require(memory != MAP_FAILED, "mremap");
  check_words(memory, 0, words, 1, "after mremap");
  for (std::size_t i = words; i < 2 * words; i += 512) require(memory[i] == 0, "the new part", i);
  // shrinks
  require(mremap(memory, 2 * bytes, bytes, 0) == memory, "mremap to less");
  // dropped
  require(madvise(memory, bytes / 4, MADV_DONTNEED) == 0, "madvise");
  for (std::size_t i = 0; i < words / 4; i += 64) require(memory[i] == 0, "dropped", i);
  check_words(memory, words / 4, words, 1, "beside what was dropped");
  require(madvise(memory + words / 4, bytes / 8, MADV_POPULATE_WRITE) == 0, "populate");
  check_words(memory, words / 4, words, 1, "after MADV_POPULATE_WRITE");
  // refused, or done: nothing is lost
  static_cast<void>(mlock(memory + words / 4, 4 * kPage));
  push_out(bytes);
  check_words(memory, words / 4, words, 1, "after mlock");
  static_cast<void>(munlock(memory + words / 4, 4 * kPage));
  // a hole, and memory there again
  require(munmap(memory + words / 2, bytes / 4) == 0, "munmap");
  void* const again = mmap(memory + words / 2, bytes / 4, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  require(again == memory + words / 2, "mmap in a hole");
  for (std::size_t i = words / 2; i < words * 3 / 4; i += 64) require(memory[i] == 0, "hole", i);
  // read-only, enforced
  const std::size_t part = bytes / 16 / kPage * kPage;
  require(mprotect(memory + words * 3 / 4, part, PROT_READ) == 0, "mprotect");
  push_out(bytes);
  check_words(memory, words * 3 / 4, words, 1, "read-only words");
  if (const pid_t child = fork(); child == 0) {
    signal(SIGSEGV, SIG_DFL);
    memory[words * 3 / 4] = 5;
    std::_Exit(0);
  } else {
    int status = 0;
    require(
        waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
        "a write to read-only memory", static_cast<std::size_t>(status));
  }
  require(mprotect(memory + words * 3 / 4, part, PROT_READ | PROT_WRITE) == 0, "mprotect back");
  write_words(memory, words * 3 / 4, words, 2);
  push_out(bytes);
  check_words(memory, words * 3 / 4, words, 2, "written again");
  // realloc of large blocks
  auto* block = static_cast<std::uint64_t*>(std::malloc(bytes / 8));
  write_words(block, 0, words / 8, 9);
  block = static_cast<std::uint64_t*>(std::realloc(block, bytes / 2));
  require(block != nullptr, "realloc");
  check_words(block, 0, words / 8, 9, "after realloc");
  std::free(block);
}

/// Pages of that memory which are there, as the kernel says.
std::size_t resident(const std::uint64_t* memory, std::size_t bytes) {
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::vector<std::uint64_t> entries(bytes / kPage);
  const auto first = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(memory) / kPage * 8);
  const auto size = static_cast<ssize_t>(entries.size() * 8);
  require(pread(pagemap, entries.data(), entries.size() * 8, first) == size, "pagemap");
  close(pagemap);
  std::size_t pages = 0;
  for (const std::uint64_t entry : entries) pages += entry >> 63;
  return pages;
}

void long_array(std::size_t bytes) {
  const std::size_t words = bytes / 8;
  std::uint64_t* const memory = map_words(bytes);
  std::size_t most = 0;
  for (std::uint64_t round = 1; round <= 20; ++round) {
    write_words(memory, 0, words, round);
    check_words(memory, 0, words, round, "a round");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    // In the first rounds the budget may not have been reached, or not yet again.
    if (round > 5) most = std::max(most, resident(memory, bytes));
  }
  std::printf("resident %zu KiB\n", most * kPage / 1024);
}

// Threads come and go while memory is short; what they leave behind outlives them.
void short_threads(std::size_t bytes) {
  constexpr std::size_t kBlock = 64 * 1024;
  std::vector<std::unique_ptr<std::uint64_t[]>> blocks(bytes / kBlock);
  for (std::size_t first = 0; first < blocks.size(); first += 4) {
    std::vector<std::thread> workers;
    for (std::size_t i = first; i < std::min(blocks.size(), first + 4); ++i) {
      workers.emplace_back([&, i] {
        blocks[i] = std::make_unique<std::uint64_t[]>(kBlock / 8);
        write_words(blocks[i].get(), 0, kBlock / 8, i);
        const std::size_t other = i * 7 % (first + 1);
        if (blocks[other] != nullptr && other < first)
          check_words(blocks[other].get(), 0, kBlock / 8, other, "an earlier block");
      });
    }
    for (std::thread& worker : workers) worker.join();
  }
  for (std::size_t i = 0; i < blocks.size(); ++i)
    check_words(blocks[i].get(), 0, kBlock / 8, i, "a block");
}

// Programs are started with words that were put away long ago.
void spawns(std::size_t bytes) {
  std::vector<std::string> words;
  for (int i = 0; i < 200; ++i) {
    words.push_back("word-" + std::to_string(i) + std::string(2000, 'x'));
    words.push_back(std::string(6000, 'y'));
  }
  const std::string variable = "PRELOAD_TEST=" + std::string(5000, 'z');
  const std::string script =
      "test $# = 400 && test ${#PRELOAD_TEST} = 5000 && case $1 in word-0x*) exit 9;; esac; exit 1";
  std::vector<char*> pointers;
  for (const char* const first : {"/bin/sh", "-c", script.c_str(), "name"})
    pointers.push_back(const_cast<char*>(first));
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::vector<char*> environment{const_cast<char*>(variable.c_str()), nullptr};
  for (const bool forks_first : {false, true}) {
    push_out(bytes);
    push_out(bytes);
    pid_t child = -1;
    if (forks_first) {
      child = fork();
      if (child == 0) {
        execve("/bin/sh", pointers.data(), environment.data());
        std::_Exit(5);
      }
    } else {
      require(posix_spawn(&child, "/bin/sh", nullptr, nullptr, pointers.data(),
                          environment.data()) == 0,
              "posix_spawn");
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child, "waitpid");
    require(WIFEXITED(status) && WEXITSTATUS(status) == 9, "what was started",
            static_cast<std::size_t>(status));
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const std::string name = arguments[1];
  const std::size_t bytes = std::strtoul(arguments[2], nullptr, 10) * kMebibyte;
  const std::map<std::string, void (*)(std::size_t)> cases{
      {"array", array},           {"small_blocks", small_blocks},
      {"threads", threads},       {"forks", forks},
      {"long_array", long_array}, {"short_threads", short_threads},
      {"spawns", spawns},         {"forks_among_threads", forks_among_threads},
      {"noise", noise},           {"system_calls", system_calls},
      {"mappings", mappings}};
  const auto found = cases.find(name);
  if (found == cases.end()) return 2;
  found->second(bytes);
  std::printf("all right\n");
  return 0;
}

// Faults raised inside the kernel: system calls that touch protected pages. What
// Capabilities::kernel_accesses predicts is compared with what each call does: served, or EFAULT,
// never a hang; and Region::touch() before the call makes it work where it would not.
#include <linux/futex.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "hazards/ring.hpp"
#include "hazards/support.hpp"
#include "sys/kernel_abi.hpp"

namespace pagetrap::hazards {
namespace {

constexpr unsigned char kPattern = 0x6b;

// 0, or the errno of a call that writes to the page at `to`.
using Operation = std::function<int(std::byte* to)>;

int error_of(long result) { return result < 0 ? errno : 0; }

int patterned_file(const char* directory, int flags) {
  std::string path = std::string(directory) + "/pagetrap-hazards-XXXXXX";
  const int file = ::mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) return -1;
  std::vector<unsigned char> contents(8 * page_size(), kPattern);
  const bool written = ::write(file, contents.data(), contents.size()) > 0 && ::fsync(file) == 0;
  const int opened = written ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags) : -1;
  ::close(file);
  ::unlink(path.c_str());
  return opened;
}

int read_pipe(std::byte* to) {
  int ends[2];
  require(::pipe2(ends, O_CLOEXEC) == 0 && ::write(ends[1], "kkkk", 4) == 4, "pipe");
  const int error = error_of(::read(ends[0], to, 4));
  ::close(ends[0]);
  ::close(ends[1]);
  return error;
}

int pread_file(std::byte* to) {
  const int file = patterned_file("/tmp", 0);
  require(file >= 0, "a file");
  const int error = error_of(::pread(file, to, 100, 0));
  ::close(file);
  return error;
}

int pread_direct(std::byte* to) {
  const int file = patterned_file("/var/tmp", O_DIRECT);
  if (file < 0) return -1;  // no file system with O_DIRECT
  const int error = error_of(::pread(file, to, page_size(), 0));
  ::close(file);
  return error;
}

int tell_time(std::byte* to) { return error_of(::syscall(SYS_clock_gettime, CLOCK_REALTIME, to)); }

int futex_wait(std::byte* to) {  // the kernel reads the word, and finds another value
  const int error =
      error_of(::syscall(SYS_futex, to, FUTEX_WAIT_PRIVATE, 0x77777777, nullptr, nullptr, 0));
  return error == EAGAIN ? 0 : error;
}

int futex_op(std::byte* to) {
  static std::atomic<std::uint32_t> other{0};
  return error_of(::syscall(SYS_futex, &other, FUTEX_WAKE_OP_PRIVATE, 1, nullptr, to,
                            FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0)));
}

int readv_of_self(std::byte* to) {
  char from[16] = "kkkkkkkkkkkkkkk";
  const iovec local{to, sizeof from};
  const iovec remote{from, sizeof from};
  return error_of(::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0));
}

int writev_to_self(std::byte* to) {
  char from[16] = "kkkkkkkkkkkkkkk";
  const iovec local{from, sizeof from};
  const iovec remote{to, sizeof from};
  return error_of(::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0));
}

int write_own_memory_file(std::byte* to) {
  const int memory = ::open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  require(memory >= 0, "/proc/self/mem");
  const int error = error_of(
      ::pwrite(memory, "kkkk", 4, static_cast<off_t>(reinterpret_cast<std::uintptr_t>(to))));
  ::close(memory);
  return error;
}

int populate(std::byte* to) {
  constexpr int kPopulateWrite = 23;
  return error_of(::madvise(to, page_size(), kPopulateWrite));
}

int write_from(std::byte* to) {  // the other direction: the kernel reads the page
  const int file = ::memfd_create("sink", MFD_CLOEXEC);
  const int error = error_of(::write(file, to, 100));
  ::close(file);
  return error;
}

int uring_read(std::byte* to) {
  Ring ring;
  if (!ring.there()) return -1;
  const int file = patterned_file("/tmp", 0);
  const int result = ring.read(IORING_OP_READ, file, to, 100);
  ::close(file);
  return result < 0 ? -result : 0;
}

// How a kind of call meets a protected page.
enum class Way {
  plain,     // copies like user code, in kernel mode: what kernel_accesses is about
  remote,    // as plain, but mprotect'ed pages are EFAULT and so are all others not served
  memory,    // /proc/self/mem: past mprotect; never past userfaultfd
  atomic,    // changed in place by the kernel, which cannot wait there: EFAULT on every backend
  populate,  // MADV_POPULATE_WRITE: refuses pages that may not be written
};

struct Case {
  const char* name;
  Operation run;
  Way way;
  bool kernel_writes = true;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"read of a pipe", read_pipe, Way::plain},
      {"pread of a file", pread_file, Way::plain},
      {"pread with O_DIRECT", pread_direct, Way::plain},
      {"clock_gettime", tell_time, Way::plain},
      {"futex wait", futex_wait, Way::plain, false},
      {"futex operation on it", futex_op, Way::atomic},
      {"io_uring read", uring_read, Way::plain},
      {"process_vm_readv into it", readv_of_self, Way::plain},
      {"process_vm_writev to it", writev_to_self, Way::remote},
      {"/proc/self/mem", write_own_memory_file, Way::memory},
      {"MADV_POPULATE_WRITE", populate, Way::populate},
      {"write from it", write_from, Way::plain, false},
  };
  return all;
}

// The errno the call must give, as capabilities() has it. 0: served.
bool as_predicted(const Case& call, BackendId id, bool served, int error) {
  switch (call.way) {
    case Way::plain:
    case Way::remote:
      return error == (served ? 0 : EFAULT);
    case Way::memory:
      return error == (id == BackendId::mprotect ? 0 : EIO);
    case Way::atomic:
      return error == EFAULT;
    case Way::populate:
      return served ? error == 0 : error == EFAULT || error == EINVAL || error == ENOMEM;
  }
  return false;
}

// A region of the backend with page 0 in the state in question.
Region closed_region(BackendId id, FaultKind kind, bool served, Opener& opener) {
  RegionOptions options = options_for(id, kind);
  options.kernel_accesses = served;
  Region region = must(Region::create(4 * page_size(), options), "create");
  must(region.on_fault(Opener::open, &opener), "on_fault");
  if (kind == FaultKind::write_protected) {
    store(region.data(), 1);
    must(region.protect(region.range(), Access::read), "protect");
  }
  return region;
}

// Threads of this process, the kernel's included, whose names begin so.
std::size_t count_tasks(const std::string& beginning) {
  std::size_t count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::ifstream(task.path() / "comm") >> comm;
    count += comm.starts_with(beginning) ? 1 : 0;
  }
  return count;
}

constexpr int kNotHere = 77;  // exit code: the call does not exist on this machine

TEST(KernelAccess, EveryCallDoesWhatTheCapabilitiesPredict) {
  for (const FaultKind kind : {FaultKind::missing, FaultKind::write_protected}) {
    for (const BackendId id : backends_for(kind)) {
      const bool served = capabilities(id, Backing::anonymous).kernel_accesses;
      for (const Case& call : cases()) {
        if (kind == FaultKind::write_protected && !call.kernel_writes) continue;
        SCOPED_TRACE(std::string(name(id)) + ", " + call.name +
                     (kind == FaultKind::missing ? ", missing" : ", write-protected") +
                     (served ? ", served" : ", EFAULT"));
        const End end = in_child(
            [&] {
              Opener opener;
              const Region region = closed_region(id, kind, served, opener);
              const int error = call.run(region.data());
              if (error < 0) ::_exit(kNotHere);
              if (!as_predicted(call, id, served, error)) {
                ::dprintf(STDERR_FILENO, "%s on %s: %s\n", call.name, name(id),
                          error == 0 ? "served" : ::strerror(error));
                ::_exit(kBroken);
              }
              if (error == 0 && served) require(opener.faults > 0, "served by the handler");
            },
            8);
        EXPECT_TRUE(end == kSucceeded || end == exited(kNotHere)) << end;
      }
    }
  }
}

TEST(KernelAccess, TouchBeforeTheCallMakesItWork) {
  for (const FaultKind kind : {FaultKind::missing, FaultKind::write_protected}) {
    for (const BackendId id : backends_for(kind)) {
      for (const Case& call : cases()) {
        SCOPED_TRACE(std::string(name(id)) + ", " + call.name);
        const End end = in_child(
            [&] {
              Opener opener;
              Region region = closed_region(id, kind, false, opener);
              require(region.touch(region.data(), true), "touch");
              require(opener.faults == 1, "the fault is taken in user mode");
              const int error = call.run(region.data());
              if (error < 0) ::_exit(kNotHere);
              errno = error;
              require(error == 0, call.name);
            },
            8);
        EXPECT_TRUE(end == kSucceeded || end == exited(kNotHere)) << end;
      }
    }
  }
}

// A read(2) that comes to a protected page half way: what it returns was read, and nothing is lost.
TEST(KernelAccess, ApartialReadLosesNothing) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    for (const bool pipe : {true, false}) {
      SCOPED_TRACE(std::string(name(id)) + (pipe ? " pipe" : " file"));
      EXPECT_EQ(kSucceeded, in_child([&] {
                  Opener opener;
                  Region region = must(
                      Region::create(4 * page_size(), options_for(id, FaultKind::write_protected)),
                      "create");
                  must(region.on_fault(Opener::open, &opener), "on_fault");
                  must(region.protect(page_at(region, 2), Access::read), "protect");
                  std::vector<unsigned char> source(4 * page_size());
                  for (std::size_t i = 0; i < source.size(); ++i)
                    source[i] = static_cast<unsigned char>(i * 7 + i / 251);
                  int from = -1;
                  int ends[2];
                  if (pipe) {
                    require(::pipe2(ends, O_CLOEXEC) == 0 &&
                                ::write(ends[1], source.data(), source.size()) ==
                                    static_cast<ssize_t>(source.size()),
                            "pipe");
                    from = ends[0];
                  } else {
                    from = ::memfd_create("source", MFD_CLOEXEC);
                    require(::write(from, source.data(), source.size()) ==
                                static_cast<ssize_t>(source.size()),
                            "file");
                    ::lseek(from, 0, SEEK_SET);
                  }
                  std::size_t have = 0;
                  bool stopped = false;
                  while (have < source.size()) {
                    const ssize_t got = ::read(from, region.data() + have, source.size() - have);
                    if (got > 0) {
                      have += static_cast<std::size_t>(got);
                      stopped = stopped || have < source.size();
                      continue;
                    }
                    require(got < 0 && errno == EFAULT && !stopped == (have == 0), "EFAULT");
                    require(region.touch(region.data() + have, true), "touch where it stopped");
                    stopped = true;
                  }
                  require(stopped && opener.faults == 1, "it stopped at the protected page");
                  require(std::memcmp(region.data(), source.data(), source.size()) == 0,
                          "every byte, once");
                }));
    }
  }
}

// A handler that declines while a system call sleeps on the page: no signal can be delivered to a
// thread inside the kernel, which must not sleep for ever all the same.
TEST(KernelAccess, ADeclinedFaultInsideASystemCallIsNotAHang) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).kernel_accesses)
    GTEST_SKIP() << "kernel-mode userfaultfd is not allowed";
  for (const bool handled : {false, true}) {
    SCOPED_TRACE(handled ? "the program handles SIGSEGV" : "default action");
    const End end = in_child(
        [handled] {
          if (handled) ::signal(SIGSEGV, [](int) {});
          Opener opener;
          Region region = closed_region(BackendId::uffd_thread, FaultKind::missing, true, opener);
          must(region.on_fault([](void*, const Fault&) noexcept { return Verdict::not_mine; },
                               nullptr),
               "on_fault");
          const int error = read_pipe(region.data());
          require(error == EFAULT, "EFAULT, if the process lives on");
        },
        3);
    EXPECT_TRUE(end == kSucceeded || end == killed_by(SIGSEGV)) << end;
  }
}

// Counts faults on frozen pages, which then wait for the thaw.
struct Patient {
  std::atomic<int> frozen{0};
  static Verdict wait(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    if (!fault.frozen) return Verdict::not_mine;
    static_cast<Patient*>(self)->frozen.fetch_add(1);
    return Verdict::retry;
  }
};

// A frozen region is protected like any other: EFAULT, or a call that sleeps until the thaw where
// handler threads serve the kernel's accesses and no protection key stands before them.
TEST(KernelAccess, AFrozenRegion) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    for (const bool served : {false, true}) {
      if (served && !capabilities(id, Backing::anonymous).kernel_accesses) continue;
      SCOPED_TRACE(std::string(name(id)) + (served ? ", served" : ", EFAULT"));
      const bool waits = served && !protection_keys_available();
      EXPECT_EQ(kSucceeded, in_child([id, served, waits] {
                  RegionOptions options = options_for(id, FaultKind::write_protected);
                  options.freezable = true;
                  options.kernel_accesses = served;
                  Region region = must(Region::create(page_size(), options), "create");
                  Patient patient;
                  must(region.on_fault(Patient::wait, &patient), "on_fault");
                  must(region.freeze(), "freeze");
                  std::atomic<bool> returned{false};
                  std::thread reader([&] {
                    require(read_pipe(region.data()) == (waits ? 0 : EFAULT), "what the call says");
                    returned = true;
                  });
                  while (!returned && patient.frozen == 0) ::usleep(500);
                  if (!waits) reader.join();
                  require(returned != waits && load(region.data()) == 0, "nothing is written");
                  must(region.thaw(), "thaw");
                  if (waits) reader.join();
                  require(read_pipe(region.data()) == 0, "a call after the thaw");
                  require(load(region.data()) == 'k', "what it read");
                }));
    }
  }
}

// Hazard 21: the kernel writes to pinned pages without looking at rights. It cannot be prevented;
// documented, and pinned down here so that a kernel that changes it is noticed.
TEST(KernelAccess, PinnedPagesAreWrittenPastLaterProtection) {
  Ring probe;
  if (!probe.there()) GTEST_SKIP() << "no io_uring";
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Opener opener;
                Region region =
                    must(Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                         "create");
                must(region.on_fault(Opener::open, &opener), "on_fault");
                store(region.data(), 1);
                Ring ring;
                if (!ring.pin(region.range())) return;  // RLIMIT_MEMLOCK
                must(region.protect(region.range(), Access::read), "protect after the pin");
                const int file = patterned_file("/tmp", 0);
                require(ring.read(IORING_OP_READ_FIXED, file, region.data(), 64) == 64, "read");
                require(opener.faults == 0, "no fault");
                require(load(region.data()) == kPattern, "the page has changed");
                store(region.data(), 2);
                require(opener.faults == 1, "user code still faults");
              }));
  }
}

// The same of tracking: a fact of the kernel, which no form of DIRTY can see past.
TEST(KernelAccess, WritesToPagesPinnedBeforeTheyWereArmedAreNotDirty) {
  Ring probe;
  if (!probe.there()) GTEST_SKIP() << "no io_uring";
  for (const RegionOptions& options : tracking_options()) {
    SCOPED_TRACE(tracked_by(options));
    EXPECT_EQ(kSucceeded, in_child([options] {
                Region region = must(Region::create(4 * page_size(), options), "create");
                for (std::size_t i = 0; i < 4; ++i) store(page_at(region, i).base, 1);
                Ring ring;
                if (!ring.pin(page_at(region, 1))) return;  // RLIMIT_MEMLOCK
                must(region.arm_dirty(region.range()), "arm after the pin");
                const int file = patterned_file("/tmp", 0);
                std::byte* const page = page_at(region, 1).base;
                require(ring.read(IORING_OP_READ_FIXED, file, page, 64) == 64, "read");
                require(load(page) == kPattern, "the page has changed");
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "dirty");
                require(found.empty(), "and nobody knows");
                store(page + 100, 2);
                must(region.dirty(region.range(), found), "dirty");
                require(found.size() == 1 && found[0] == page_at(region, 1), "user code is seen");
                require(ring.read(IORING_OP_READ_FIXED, file, page + 200, 64) == 64, "read");
                require(load(page + 200) == kPattern, "it is still the page that is pinned");
              }));
  }
}

// And of a freeze.
TEST(KernelAccess, PinnedPagesAreWrittenWhileTheirRegionIsFrozen) {
  Ring probe;
  if (!probe.there()) GTEST_SKIP() << "no io_uring";
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                RegionOptions options = options_for(id, FaultKind::write_protected);
                options.freezable = true;
                Region region = must(Region::create(page_size(), options), "create");
                store(region.data(), 1);
                Ring ring;
                if (!ring.pin(region.range())) return;  // RLIMIT_MEMLOCK
                must(region.freeze(), "freeze");
                const int file = patterned_file("/tmp", 0);
                require(ring.read(IORING_OP_READ_FIXED, file, region.data(), 64) == 64, "read");
                require(load(region.data()) == kPattern, "a frozen page has changed");
                must(region.thaw(), "thaw");
              }));
  }
}

// The kernel's own threads are listed among the process's, and answer no signal.
TEST(KernelAccess, ABroadcastDoesNotWaitForTheWorkersOfAnIoUring) {
  if (!Ring().there()) GTEST_SKIP() << "no io_uring";
  EXPECT_EQ(kSucceeded, in_child([] {
              Ring ring;
              int ends[2];
              require(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
              std::byte* const buffer = foreign_pages(1, PROT_READ | PROT_WRITE);
              require(ring.start(IORING_OP_READ, IOSQE_ASYNC, ends[0], buffer, 4), "start");
              while (count_tasks("iou-wrk-") == 0) ::usleep(500);
              std::atomic<bool> stop{false};
              std::thread other([&] {
                while (!stop) ::usleep(500);
              });
              static std::atomic<int> reached{0};
              static std::atomic<int> met{0};
              set_freeze_timeout(std::chrono::seconds(10));  // the alarm of the test is later
              for (int round = 1; round <= 20; ++round) {
                must(for_every_other_thread([](void*, void*) noexcept { reached.fetch_add(1); },
                                            nullptr, [](void*) { met.fetch_add(1); }),
                     "broadcast");
                require(reached == round && met == round,
                        "the one thread that is not the kernel's");
              }
              require(count_tasks("iou-wrk-") > 0, "the worker was there all the time");
              stop = true;
              other.join();
              require(::write(ends[1], "kkkk", 4) == 4 && ring.finish() == 4, "its read goes on");
              require(load(buffer) == 'k', "and writes");
            }));
}

// Writes of system calls to tracked memory are found by every form that lets them through.
TEST(KernelAccess, SystemCallsThatWriteAreDirty) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::ring}) {
    RegionOptions options;
    options.dirty = form;
    if (!Region::create(page_size(), options)) continue;
    for (const Case& call : cases()) {
      if (!call.kernel_writes || call.way == Way::populate) continue;
      SCOPED_TRACE(std::string(call.name) + (form == DirtyForm::scan ? ", scan" : ", ring"));
      const End end = in_child([&] {
        Region region = must(Region::create(64 * page_size(), options), "create");
        for (std::size_t i = 0; i < 64; ++i) store(page_at(region, i).base, 1);
        must(region.arm_dirty(region.range()), "arm");
        std::vector<PageRange> found;
        must(region.dirty(region.range(), found), "a look that finds nothing");
        require(found.empty(), "clean");
        const int error = call.run(page_at(region, 17).base);
        if (error < 0) ::_exit(kNotHere);
        errno = error;
        require(error == 0, "served");
        must(region.dirty(region.range(), found), "dirty");
        require(!found.empty(), "DIRTY loses no write of a system call");
        require(found.size() == 1 && found[0] == page_at(region, 17), "exactly that page");
      });
      EXPECT_TRUE(end == kSucceeded || end == exited(kNotHere)) << end;
    }
  }
}

}  // namespace
}  // namespace pagetrap::hazards

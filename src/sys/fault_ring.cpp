#include "sys/fault_ring.hpp"

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "sys/injection.hpp"
#include "sys/tasks.hpp"

namespace pagetrap::sys {
namespace {

// 16 bytes a sample: 16,384 faults between two looks. Within the 516 KiB per CPU that any user may
// lock (perf_event_mlock_kb).
constexpr std::size_t kRingBytes = 256 * 1024;

int open_event(std::uint64_t config, int thread, int cpu, bool kernel) noexcept {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = config;
  attributes.sample_period = 1;
  attributes.sample_type = PERF_SAMPLE_ADDR;
  attributes.inherit = 1;
  attributes.inherit_thread = 1;  // not by fork()ed children
  attributes.exclude_kernel = kernel ? 0 : 1;
  attributes.exclude_hv = 1;
  attributes.watermark = 1;
  attributes.wakeup_watermark = 0xffffffff;  // nobody polls
  return static_cast<int>(
      ::syscall(SYS_perf_event_open, &attributes, thread, cpu, -1, PERF_FLAG_FD_CLOEXEC));
}

Error refused(int number) {
  return {
      "perf_event_open",
      number,
      {},
      number == EACCES || number == EPERM
          ? "needs sysctl kernel.perf_event_paranoid <= 2, and no seccomp filter against it; or "
            "CAP_PERFMON"
          : "see perf_event_open(2)"};
}

}  // namespace

// Opens one event; the first of a CPU maps its ring, the others write into it. Returns errno or 0.
int FaultRing::attach(std::uint64_t config, int thread, int cpu, int& output) {
  Descriptor event(open_event(config, thread, cpu, samples_kernel_));
  if (!event.valid()) return errno;
  if (output < 0) {
    Mapping::Request request;
    request.size_bytes = kRingBytes + page_size();
    request.prot = PROT_READ | PROT_WRITE;
    request.flags = MAP_SHARED;
    request.descriptor = event.get();
    auto memory = Mapping::create(request);
    if (!memory) return memory.error().number;
    // The ring must not follow into fork()ed children, whose faults are their own.
    ::madvise(memory->data(), memory->range().size_bytes(), MADV_DONTFORK);
    rings_.push_back({std::move(*memory), 0});
    output = event.get();
  } else if (::ioctl(event.get(), PERF_EVENT_IOC_SET_OUTPUT, output) != 0) {
    return errno;
  }
  events_.push_back(std::move(event));
  return 0;
}

Result<FaultRing> FaultRing::open() {
  if (const int error = injected(Call::perf_event_open)) return refused(error);
  // RACE a thread born after this list by one that has no events yet has none either, and never
  // will: its faults are counted and not sampled, and DIRTY scans (dirty_ring.cpp). Listing again
  // would be worse: a thread that inherited its events would get them twice.
  const auto threads = list_threads();
  if (!threads) return threads.error();
  FaultRing ring;
  {
    const Descriptor probe(open_event(PERF_COUNT_SW_PAGE_FAULTS_MIN, 0, -1, true));
    ring.samples_kernel_ = probe.valid();
  }
  const int cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_CONF));
  for (int cpu = 0; cpu < cpus; ++cpu) {
    int output = -1;
    for (const int thread : *threads) {
      for (const std::uint64_t kind :
           {PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_COUNT_SW_PAGE_FAULTS_MAJ}) {
        const int error = ring.attach(kind, thread, cpu, output);
        // ESRCH: the thread ended meanwhile. ENODEV: the CPU is offline. Faults that a CPU coming
        // online later takes are noticed as unsampled.
        if (error != 0 && error != ESRCH && error != ENODEV) return refused(error);
      }
    }
  }
  return ring;
}

std::size_t FaultRing::drain(std::vector<std::byte*>& out) {
  std::size_t samples = 0;
  for (PerCpu& ring : rings_) {
    auto* const control = reinterpret_cast<perf_event_mmap_page*>(ring.memory.data());
    const std::byte* const data = ring.memory.data() + page_size();
    // SOURCE linux/perf_event.h: read data_head, then a barrier, then the records; write data_tail
    // when they have been read.
    const std::uint64_t head =
        std::atomic_ref<__u64>(control->data_head).load(std::memory_order_acquire);
    while (ring.read_to < head) {
      // Records are multiples of 8 bytes and so is the ring: no field of 8 bytes wraps around.
      perf_event_header header;
      std::memcpy(&header, data + ring.read_to % kRingBytes, sizeof header);
      if (header.size == 0) break;
      if (header.type == PERF_RECORD_SAMPLE) {
        std::uint64_t address = 0;
        std::memcpy(&address, data + (ring.read_to + sizeof header) % kRingBytes, sizeof address);
        out.push_back(reinterpret_cast<std::byte*>(address));
        samples += 1;
      } else if (header.type == PERF_RECORD_LOST) {
        lost_ = true;
      }
      ring.read_to += header.size;
    }
    std::atomic_ref<__u64>(control->data_tail).store(ring.read_to, std::memory_order_release);
  }
  return samples;
}

void FaultRing::skip() noexcept {
  for (PerCpu& ring : rings_) {
    auto* const control = reinterpret_cast<perf_event_mmap_page*>(ring.memory.data());
    ring.read_to = std::atomic_ref<__u64>(control->data_head).load(std::memory_order_acquire);
    std::atomic_ref<__u64>(control->data_tail).store(ring.read_to, std::memory_order_release);
  }
  lost_ = false;
}

std::uint64_t completed_faults() noexcept {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt) + static_cast<std::uint64_t>(usage.ru_majflt);
}

}  // namespace pagetrap::sys

#include <pagetrap/trace/trace.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "sys/fd.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/switches.hpp"

namespace pagetrap::trace {
inline namespace v0 {
namespace {

constexpr std::size_t kHeaderBytes = 4096;  // of the file format, not of the page size
constexpr std::size_t kDefaultCapacity = 65536;
constexpr std::array<const char*, kKindCount> kNames = {
    "fault", "protect", "unprotect", "supply", "evict", "dirty", "freeze",
    "thaw",  "lift",    "region",    "chain",  "flip",  "pause", "close",
    "scan",  "open",    "pin",       "stall",  "cycle"};

// A ring, once there, is never unmapped: a handler in another thread may be writing to it.
struct Ring {
  FileHeader* header = nullptr;
  Event* events = nullptr;
  std::uint64_t mask = 0;
};

constinit std::atomic<const Ring*> g_ring{nullptr};
std::mutex g_configuration;  // guards creation of the ring
std::string g_file;          // GUARDED_BY(g_configuration)

std::atomic_ref<std::uint64_t> atomically(std::uint64_t& word) noexcept PAGETRAP_SIGNAL_SAFE {
  return std::atomic_ref<std::uint64_t>(word);
}

// Kinds named in `list`, or the offending name in `unknown`.
std::uint64_t parse_kinds(std::string_view list, std::string& unknown) {
  std::uint64_t kinds = 0;
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view word = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    if (word.empty()) continue;
    if (word == "all") {
      kinds = (std::uint64_t{1} << kKindCount) - 1;
      continue;
    }
    std::size_t index = 0;
    while (index < kKindCount && word != kNames[index]) ++index;
    if (index == kKindCount) {
      unknown = word;
      return 0;
    }
    kinds |= std::uint64_t{1} << index;
  }
  return kinds;
}

Result<const Ring*> make_ring(std::size_t capacity, const std::string& file) {
  capacity = std::bit_ceil(capacity);
  const std::size_t bytes = kHeaderBytes + capacity * sizeof(Event);
  sys::Descriptor descriptor;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (!file.empty()) {
    descriptor =
        sys::Descriptor(::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!descriptor.valid())
      return Error{"open of the trace file", errno, {}, "check PAGETRAP_TRACE_FILE"};
    if (::ftruncate(descriptor.get(), static_cast<off_t>(bytes)) != 0)
      return Error{"ftruncate of the trace file", errno, {}, "is the disk full?"};
    flags = MAP_SHARED;
  }
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, descriptor.get(), 0);
  if (memory == MAP_FAILED) return Error{"mmap of the trace ring", errno};
  auto* header = static_cast<FileHeader*>(memory);
  std::memcpy(header->magic, "PTTRACE1", sizeof header->magic);
  header->version = 1;
  header->event_bytes = sizeof(Event);
  header->capacity = capacity;
  header->process = static_cast<std::uint64_t>(::getpid());
  auto* events = reinterpret_cast<Event*>(static_cast<char*>(memory) + kHeaderBytes);
  return new Ring{header, events, capacity - 1};
}

}  // namespace

const char* name(Kind kind) noexcept {
  const auto index = static_cast<std::size_t>(kind);
  return index < kKindCount ? kNames[index] : "unknown";
}

[[gnu::hot]] bool enabled(Kind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  return ((sys::switches.traced_kinds.load(std::memory_order_relaxed) >>
           static_cast<unsigned>(kind)) &
          1) != 0;
}

[[gnu::hot]] void record(Kind kind, const void* address, std::uint64_t detail) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (!enabled(kind)) [[likely]]
    return;
  const Ring* ring = g_ring.load(std::memory_order_acquire);
  if (ring == nullptr) return;
  const std::uint64_t sequence = atomically(ring->header->next).fetch_add(1) + 1;
  Event& event = ring->events[sequence & ring->mask];
  // RACE two writers a whole ring apart may fill one slot at once. Each leaves its own sequence
  // number last; a reader takes an event only if the number it expects was there before and after,
  // so at worst a mixed event is one that a reader saw complete twice with the right number, which
  // needs the slower writer to be a full ring behind while it stores six words.
  atomically(event.sequence).store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  atomically(event.nanoseconds).store(sys::monotonic_nanoseconds(), std::memory_order_relaxed);
  atomically(event.address)
      .store(reinterpret_cast<std::uintptr_t>(address), std::memory_order_relaxed);
  atomically(event.detail).store(detail, std::memory_order_relaxed);
  std::atomic_ref<std::uint32_t>(event.thread)
      .store(static_cast<std::uint32_t>(sys::thread_id()), std::memory_order_relaxed);
  std::atomic_ref<Kind>(event.kind).store(kind, std::memory_order_relaxed);
  atomically(event.sequence).store(sequence, std::memory_order_release);
}

Result<Done> configure(std::string_view kinds, std::size_t capacity, const std::string& file) {
  std::string unknown;
  const std::uint64_t wanted = parse_kinds(kinds, unknown);
  if (!unknown.empty())
    return Error{"trace kind",
                 EINVAL,
                 {},
                 "known kinds: fault protect unprotect supply evict dirty freeze thaw lift region "
                 "chain flip pause close scan open pin stall cycle all"};
  const std::lock_guard lock(g_configuration);
  const Ring* ring = g_ring.load(std::memory_order_acquire);
  if (ring == nullptr && wanted != 0) {
    auto made = make_ring(capacity != 0 ? capacity : kDefaultCapacity, file);
    if (!made) return made.error();
    g_file = file;
    g_ring.store(*made, std::memory_order_release);
  } else if (ring != nullptr && wanted != 0 &&
             ((capacity != 0 && std::bit_ceil(capacity) != ring->mask + 1) ||
              (!file.empty() && file != g_file))) {
    return Error{
        "trace ring", EBUSY, {}, "the ring of a process cannot be changed once it is there"};
  }
  sys::switches.traced_kinds.store(wanted, std::memory_order_relaxed);
  return Done{};
}

std::size_t snapshot(std::span<Event> out) {
  const Ring* ring = g_ring.load(std::memory_order_acquire);
  if (ring == nullptr) return 0;
  const std::uint64_t newest = atomically(ring->header->next).load(std::memory_order_acquire);
  const std::uint64_t kept = std::min<std::uint64_t>({newest, ring->mask + 1, out.size()});
  std::size_t copied = 0;
  for (std::uint64_t sequence = newest - kept + 1; sequence <= newest; ++sequence) {
    Event& event = ring->events[sequence & ring->mask];
    if (atomically(event.sequence).load(std::memory_order_acquire) != sequence) continue;
    Event copy;
    copy.sequence = sequence;
    copy.nanoseconds = atomically(event.nanoseconds).load(std::memory_order_relaxed);
    copy.address = atomically(event.address).load(std::memory_order_relaxed);
    copy.detail = atomically(event.detail).load(std::memory_order_relaxed);
    copy.thread = std::atomic_ref<std::uint32_t>(event.thread).load(std::memory_order_relaxed);
    copy.kind = std::atomic_ref<Kind>(event.kind).load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (atomically(event.sequence).load(std::memory_order_relaxed) != sequence) continue;
    out[copied++] = copy;
  }
  return copied;
}

namespace {

// False: it says something else. Unset: 0.
bool capacity_wanted(std::size_t& capacity) {
  constexpr std::size_t kMost = std::size_t{1} << 30;
  const char* const text = std::getenv("PAGETRAP_TRACE_EVENTS");
  if (text == nullptr || *text == '\0') return true;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, capacity);
  return error == std::errc{} && stop == end && capacity > 0 && capacity <= kMost;
}

// The environment is read when the library is loaded, before a fault can ask. A bad value cannot be
// returned to anybody here, so it is said once on stderr and tracing stays off.
bool configure_from_environment() {
  const char* kinds = std::getenv("PAGETRAP_TRACE");
  if (kinds == nullptr || *kinds == '\0') return false;
  const char* file = std::getenv("PAGETRAP_TRACE_FILE");
  std::size_t capacity = 0;
  const auto done = capacity_wanted(capacity)
                        ? configure(kinds, capacity, file != nullptr ? file : "")
                        : Result<Done>(Error{"PAGETRAP_TRACE_EVENTS", EINVAL, {}, "1 to 2^30"});
  if (!done) {
    const std::string line = "pagetrap: PAGETRAP_TRACE ignored: " + describe(done.error()) + "\n";
    sys::write_all(STDERR_FILENO, line.data(), line.size());
  }
  return true;
}

// Last in this file: after the objects that it uses.
[[maybe_unused]] const bool kConfigured = configure_from_environment();

}  // namespace
}  // namespace v0
}  // namespace pagetrap::trace

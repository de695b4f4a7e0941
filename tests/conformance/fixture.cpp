#include "conformance/fixture.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

std::string backing_name(Backing backing) {
  if (backing == Backing::anonymous) return "anonymous";
  return backing == Backing::memfd ? "memfd" : "file";
}

const Backend* find_backend(BackendId id) {
  for (const Backend& backend : backends())
    if (backend.id == id) return &backend;
  return nullptr;
}

// Says once per process, when tests run (not when they are listed), what the grid is here.
class GridReport : public testing::Environment {
 public:
  void SetUp() override {
    std::printf("kernel %s, uid %u\n", kernel_release().c_str(), geteuid());
    for (const Combination& combination : all_combinations()) {
      const std::string why = lacking(combination, kNoFaults);
      std::printf("  %-24s %s\n", name_of(combination).c_str(),
                  why.empty() ? "runs" : ("skipped: " + why).c_str());
    }
    std::fflush(stdout);
  }
};

[[maybe_unused]] const testing::Environment* const g_report =
    testing::AddGlobalTestEnvironment(new GridReport);

std::size_t index_of(FaultKind kind) {
  return static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(kind)));
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

std::string name_of(const Combination& combination) {
  std::string text = name(combination.backend);
  for (char& c : text)
    if (c == '-') c = '_';
  return text + "_" + backing_name(combination.backing);
}

std::ostream& operator<<(std::ostream& out, const Combination& combination) {
  return out << name_of(combination);
}

std::string test_name(const testing::TestParamInfo<Combination>& info) {
  return name_of(info.param);
}

std::vector<Combination> all_combinations() {
  std::vector<Combination> all;
  for (const BackendId backend : {BackendId::uffd_inline, BackendId::uffd_thread,
                                  BackendId::mprotect, BackendId::pkey, BackendId::null}) {
    const bool uffd = backend == BackendId::uffd_inline || backend == BackendId::uffd_thread;
    all.push_back({backend, Backing::anonymous});
    all.push_back({backend, Backing::memfd});
    if (!uffd) all.push_back({backend, Backing::file});
  }
  return all;
}

std::vector<Combination> with_backends(const std::vector<BackendId>& backends) {
  std::vector<Combination> some;
  for (const Combination& combination : all_combinations())
    for (const BackendId backend : backends)
      if (combination.backend == backend) some.push_back(combination);
  return some;
}

std::vector<Combination> with_backings(const std::vector<Backing>& backings) {
  std::vector<Combination> some;
  for (const Combination& combination : all_combinations())
    for (const Backing backing : backings)
      if (combination.backing == backing) some.push_back(combination);
  return some;
}

std::string lacking(const Combination& combination, FaultSet faults) {
  const Backend* const backend = find_backend(combination.backend);
  if (backend == nullptr) return "unknown backend";
  if (!backend->available)
    return std::string(backend->name) + " is not available: needs " + backend->remedy;
  const Capabilities can = capabilities(combination.backend, combination.backing);
  if (can.faults.empty()) return name_of(combination) + " can raise no faults";
  if (!can.faults.covers(faults)) return name_of(combination) + " cannot raise these faults";
  if (faults.has(FaultKind::minor) && combination.backing == Backing::anonymous)
    return "private memory has no minor faults";
  return {};
}

Random::Random(std::uint64_t seed) : state_(seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
}

// splitmix64.
std::uint64_t Random::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

std::uint64_t stamp(std::size_t index, std::uint64_t generation) {
  return (((index + 1) * 0x9e3779b97f4a7c15U) ^ (generation << 56) ^ (generation * 0x10002U)) | 1;
}

void fill_page(std::byte* page, std::uint64_t value) {
  for (std::size_t at = 0; at < page_size(); at += sizeof value)
    std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(page + at))
        .store(value, std::memory_order_relaxed);
}

bool page_is(const std::byte* page, std::uint64_t value) {
  for (std::size_t at = 0; at < page_size(); at += sizeof value) {
    auto* const word = reinterpret_cast<std::uint64_t*>(const_cast<std::byte*>(page + at));
    if (std::atomic_ref<std::uint64_t>(*word).load(std::memory_order_relaxed) != value)
      return false;
  }
  return true;
}

std::ostream& operator<<(std::ostream& out, Way way) {
  return out << (way == Way::touch ? "touch" : "plain");
}

std::uint64_t load(Region& region, const void* at, Way way) {
  if (way == Way::touch && !region.touch(at, false)) return kDeclined;
  auto* const word = static_cast<std::uint64_t*>(const_cast<void*>(at));
  return std::atomic_ref<std::uint64_t>(*word).load(std::memory_order_relaxed);
}

void store(Region& region, void* at, std::uint64_t value, Way way) {
  if (way == Way::touch && !region.touch(at, true)) return;
  std::atomic_ref<std::uint64_t>(*static_cast<std::uint64_t*>(at))
      .store(value, std::memory_order_relaxed);
}

Pattern::Pattern(std::size_t pages, std::uint64_t generation) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(Pages{pages});
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  memory_ = sys::Mapping::create(request).value();
  // Huge pages cannot be moved page by page before the kernel has split them.
  ::madvise(memory_.data(), request.size_bytes, MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < pages; ++i) fill_page(page(i), stamp(i, generation));
}

std::byte* Pattern::page(std::size_t index) const { return memory_.data() + bytes(Pages{index}); }

unsigned FaultLog::count(FaultKind kind) const { return counts[index_of(kind)].load(); }

unsigned FaultLog::total() const {
  unsigned sum = 0;
  for (const auto& one : counts) sum += one.load();
  return sum;
}

void FaultLog::reset() {
  for (auto& one : counts) one.store(0);
  writes.store(0);
  frozen.store(0);
  retried.store(0);
  filled.store(0);
}

Verdict FaultLog::on_fault(void* self, const Fault& fault) noexcept {
  return static_cast<FaultLog*>(self)->handle(fault);
}

Verdict FaultLog::handle(const Fault& fault) noexcept {
  if (!fault.page.contains(fault.address) || fault.page.length != Pages{1} ||
      fault.region == nullptr || !fault.region->range().contains(fault.page) ||
      (fault.kind == FaultKind::write_protected && !fault.write))
    wrong.fetch_add(1);
  address.store(fault.address);
  thread.store(fault.thread);
  write.store(fault.write);
  had_context.store(fault.context != nullptr);
  ran_in.store(sys::thread_id());
  if (fault.write) writes.fetch_add(1);
  if (fault.frozen) {
    frozen.fetch_add(1);
    return Verdict::retry;
  }
  if (retried.load() < retries) {
    retried.fetch_add(1);
    return Verdict::retry;
  }
  counts[index_of(fault.kind)].fetch_add(1);
  if (decline) return Verdict::not_mine;
  int error = 0;
  if (fault.kind == FaultKind::missing || fault.kind == FaultKind::minor) {
    const std::byte* const from =
        source != nullptr ? source + (fault.page.base - fault.region->data()) : nullptr;
    const Supply by = fault.kind == FaultKind::minor ? Supply::publish : how;
    const auto done = fault.region->supply(fault.page, from, by, access);
    if (done) {
      filled.fetch_add(done->count());
    } else {
      error = done.error().number;
    }
  } else {
    const auto done =
        open_by_unguard ? fault.region->unguard(fault.page) : fault.region->unprotect(fault.page);
    if (!done) error = done.error().number;
  }
  if (error == 0) return Verdict::resolved;
  last_error.store(error);
  failures.fetch_add(1);
  // Not an endless loop of faults, but a signal that names the place.
  return Verdict::not_mine;
}

sys::Descriptor temporary_file(std::size_t size_bytes) {
  for (const char* const folder : {"/dev/shm", "/tmp", "."}) {
    std::string path = std::string(folder) + "/pagetrap.XXXXXX";
    sys::Descriptor file(::mkostemp(path.data(), O_CLOEXEC));
    if (!file.valid()) continue;
    ::unlink(path.c_str());
    if (::ftruncate(file.get(), static_cast<off_t>(size_bytes)) == 0) return file;
  }
  return sys::Descriptor{};
}

bool Ending::died_of_fault() const {
  if (signal == SIGSEGV || signal == SIGBUS) return true;
  return status > 0 && (output.find("AddressSanitizer") != std::string::npos ||
                        output.find("ThreadSanitizer") != std::string::npos ||
                        output.find("UndefinedBehaviorSanitizer") != std::string::npos);
}

Ending in_child(const std::function<int()>& body, unsigned seconds) {
  std::fflush(stdout);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {-1, 0, "pipe2 failed"};
  const pid_t child = ::fork();
  if (child < 0) return {-1, 0, "fork failed"};
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(seconds);
    ::_exit(body());
  }
  ::close(ends[1]);
  Ending ending;
  ending.output = read_all(ends[0]);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ending.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ending.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return ending;
}

int complain(const char* condition, int line) {
  std::array<char, 512> text;
  const int length =
      std::snprintf(text.data(), text.size(), "line %d: not so: %s\n", line, condition);
  sys::write_all(STDERR_FILENO, text.data(), static_cast<std::size_t>(length));
  return line % 256 != 0 ? line % 256 : 1;
}

void Conformance::SetUp() {
  const std::string why = lacking(GetParam(), needs());
  if (!why.empty()) GTEST_SKIP() << why;
  const std::string further = obstacle();
  if (!further.empty()) GTEST_SKIP() << further;
}

std::vector<Way> Conformance::ways() const {
  if (is_null()) return {Way::touch};
  return {Way::touch, Way::plain};
}

RegionOptions Conformance::options(std::size_t pages, FaultSet faults) {
  RegionOptions options;
  options.backend = backend();
  options.backing = backing();
  options.faults = faults;
  if (backing() == Backing::file) {
    files_.push_back(temporary_file(bytes(Pages{pages})));
    options.file = files_.back().get();
  }
  return options;
}

Region Conformance::make_with(std::size_t pages, const RegionOptions& options, FaultLog* log) {
  auto made = Region::create(bytes(Pages{pages}), options);
  if (!made) {
    ADD_FAILURE() << describe(made.error());
    return {};
  }
  if (log != nullptr) made->on_fault(FaultLog::on_fault, log).value();
  return std::move(*made);
}

Region Conformance::make(std::size_t pages, FaultSet faults, FaultLog* log) {
  return make_with(pages, options(pages, faults), log);
}

std::byte* page_at(const Region& region, std::size_t index) {
  return region.data() + bytes(Pages{index});
}

PageRange pages_at(const Region& region, std::size_t index, std::size_t count) {
  return {page_at(region, index), Pages{count}};
}

std::size_t index_in(const Region& region, const void* address) {
  return static_cast<std::size_t>(static_cast<const std::byte*>(address) - region.data()) >>
         page_shift();
}

void write_stamps(Region& region, std::uint64_t generation) {
  for (std::size_t i = 0; i < region.range().length.count(); ++i) {
    region.touch(page_at(region, i), true);
    fill_page(page_at(region, i), stamp(i, generation));
  }
}

}  // namespace pagetrap::conformance

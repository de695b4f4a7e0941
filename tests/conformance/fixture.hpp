// What every group of the conformance suite stands on: the grid of backends and backings, regions
// made for a cell of it, accesses that also work where nothing is protected, and a handler that
// counts what it sees.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "sys/fd.hpp"
#include "sys/mapping.hpp"

namespace pagetrap::conformance {

inline constexpr FaultSet kNoFaults{};

/// One cell of the grid.
struct Combination {
  BackendId backend = BackendId::null;
  Backing backing = Backing::anonymous;
};
std::string name_of(const Combination& combination);
std::ostream& operator<<(std::ostream& out, const Combination& combination);

/// Names a parameterised test after its cell.
std::string test_name(const testing::TestParamInfo<Combination>& info);

/// Every cell that some kernel could serve (userfaultfd knows no plain files).
std::vector<Combination> all_combinations();
/// The cells with one of these backends / backings.
std::vector<Combination> with_backends(const std::vector<BackendId>& backends);
std::vector<Combination> with_backings(const std::vector<Backing>& backings);

/// Why `combination` cannot raise `faults` here; empty if it can.
std::string lacking(const Combination& combination, FaultSet faults);

/// A number from a seed; the same on every machine. Announces its seed.
class Random {
 public:
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(next() % limit); }

 private:
  std::uint64_t state_;
};

/// A value for page `index`, never 0, different for different pages and generations.
std::uint64_t stamp(std::size_t index, std::uint64_t generation = 0);

/// All words of the page at `page` are `value` / whether they all are.
void fill_page(std::byte* page, std::uint64_t value);
[[nodiscard]] bool page_is(const std::byte* page, std::uint64_t value);

/// How a test accesses memory. On the null backend only `touch` raises faults.
enum class Way { touch, plain };
std::ostream& operator<<(std::ostream& out, Way way);

/// One access of a whole word. With Way::touch the word is touched before. A load under `touch`
/// that the handler declined returns kDeclined.
inline constexpr std::uint64_t kDeclined = 0xdec11ed;
std::uint64_t load(Region& region, const void* at, Way way);
void store(Region& region, void* at, std::uint64_t value, Way way);

/// Threads that run until told to stop, and are told so when a test leaves early.
class Crew {
 public:
  Crew() = default;
  ~Crew() { dismiss(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  template <class Work>
  void add(Work work) {
    threads_.emplace_back(std::move(work));
  }
  [[nodiscard]] bool working() const { return !stop_.load(); }
  void dismiss() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

/// Private memory whose pages hold their stamps: what a region's pages shall hold.
class Pattern {
 public:
  /// Private memory of `pages` pages, page i filled with stamp(i, generation).
  explicit Pattern(std::size_t pages, std::uint64_t generation = 0);
  [[nodiscard]] std::byte* page(std::size_t index) const;
  [[nodiscard]] std::byte* data() const { return memory_.data(); }

 private:
  sys::Mapping memory_;
};

/// A handler that counts faults by kind and resolves them. Signal-safe: no allocation, no lock.
struct FaultLog {
  /// What to do about each kind. missing: supply from `source`, which lies like the region.
  Supply how = Supply::copy;
  const std::byte* source = nullptr;
  Access access = Access::read_write;
  bool decline = false;  // answer not_mine
  unsigned retries = 0;  // answer retry so many times first
  bool open_by_unguard = false;

  std::array<std::atomic<unsigned>, 4> counts{};  // by bit number of FaultKind
  std::atomic<unsigned> writes{0};
  std::atomic<unsigned> frozen{0};
  std::atomic<unsigned> retried{0};
  std::atomic<std::size_t> filled{0};  // pages that supply() said it filled
  std::atomic<int> failures{0};        // operations that failed in the handler
  std::atomic<int> last_error{0};
  std::atomic<unsigned> wrong{0};  // faults whose facts contradict each other

  // Of the last fault.
  std::atomic<std::byte*> address{nullptr};
  std::atomic<pid_t> thread{0};
  std::atomic<bool> write{false};
  std::atomic<bool> had_context{false};
  std::atomic<pid_t> ran_in{0};

  [[nodiscard]] unsigned count(FaultKind kind) const;
  [[nodiscard]] unsigned total() const;
  void reset();
  Verdict handle(const Fault& fault) noexcept;
  static Verdict on_fault(void* self, const Fault& fault) noexcept;
};

/// A file of `size_bytes` zeroes that nobody else sees; on tmpfs if there is one.
sys::Descriptor temporary_file(std::size_t size_bytes);

/// How a forked child ended.
struct Ending {
  int status = 0;      // exit status, or -1
  int signal = 0;      // that killed it, or 0
  std::string output;  // what it wrote to stderr
  /// Killed by a fault that nobody wanted, as the program would have been without pagetrap (a
  /// sanitizer's handler, if it is there, reports and exits instead).
  [[nodiscard]] bool died_of_fault() const;
};
/// Run `body` in a forked child, which exits with its result. The child must not use GoogleTest.
/// One that hangs is killed after `seconds` by SIGALRM.
Ending in_child(const std::function<int()>& body, unsigned seconds = 40);
/// For such bodies: the line number if `condition` does not hold, as exit status (1 for 256 n).
#define CHILD_CHECK(condition)                                                      \
  do {                                                                              \
    if (!(condition)) return pagetrap::conformance::complain(#condition, __LINE__); \
  } while (false)
int complain(const char* condition, int line);

/// The base of all groups. Skips what this machine cannot do, with the reason.
class Conformance : public testing::TestWithParam<Combination> {
 protected:
  void SetUp() override;
  /// What the regions of this group must be able to raise.
  [[nodiscard]] virtual FaultSet needs() const { return kNoFaults; }
  /// A further reason to skip, or empty.
  virtual std::string obstacle() { return {}; }

  [[nodiscard]] BackendId backend() const { return GetParam().backend; }
  [[nodiscard]] Backing backing() const { return GetParam().backing; }
  [[nodiscard]] Capabilities can() const { return capabilities(backend(), backing()); }
  [[nodiscard]] bool can_raise(FaultSet faults) const {
    return lacking(GetParam(), faults).empty();
  }
  [[nodiscard]] bool is_null() const { return backend() == BackendId::null; }
  [[nodiscard]] bool is_uffd() const {
    return backend() == BackendId::uffd_inline || backend() == BackendId::uffd_thread;
  }
  [[nodiscard]] bool is_shared() const { return backing() != Backing::anonymous; }
  [[nodiscard]] std::vector<Way> ways() const;

  /// Options for a region of `pages` pages in this cell; makes the file.
  RegionOptions options(std::size_t pages, FaultSet faults);
  /// The region, or a failed test.
  Region make(std::size_t pages, FaultSet faults, FaultLog* log = nullptr);
  Region make_with(std::size_t pages, const RegionOptions& options, FaultLog* log = nullptr);

 private:
  std::vector<sys::Descriptor> files_;
};

/// Page `index` of `region`; `count` pages from there.
std::byte* page_at(const Region& region, std::size_t index);
PageRange pages_at(const Region& region, std::size_t index, std::size_t count = 1);
std::size_t index_in(const Region& region, const void* address);

/// Every page gets its stamp, by plain stores or touches.
void write_stamps(Region& region, std::uint64_t generation = 0);

}  // namespace pagetrap::conformance

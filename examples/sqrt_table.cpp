// The mmap homework: a table of square roots that is larger than memory, computed at page faults,
// with at most N resident pages, checked by several threads. The table itself is sqrt_table.hpp;
// here are the options, the limits and the verdict.
//
//   sqrt_table                          1 TiB of addresses, 16 pages, 4 threads, 5 seconds
//   sqrt_table --pages 1 --explain      every fault as one line
//   sqrt_table --entries 2^27 --limit-memory --check-resident   the course's own condition
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "resident.hpp"
#include "sqrt_options.hpp"
#include "sqrt_readers.hpp"
#include "sqrt_table.hpp"

namespace {

using example::SqrtCounts;
using example::SqrtOptions;
using example::SqrtReaders;
using example::SqrtTable;
using pagetrap::Pages;
using Clock = std::chrono::steady_clock;

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::unique_ptr<SqrtTable> create_table(const example::SqrtTableOptions& options) {
  auto table = example::largest_sqrt_table(options);
  if (!table) {
    std::fprintf(stderr, "sqrt_table: %s\n", pagetrap::describe(table.error()).c_str());
    return nullptr;
  }
  const std::uint64_t granted = (*table)->entries();
  if (granted < options.entries) {
    std::fprintf(stderr,
                 "sqrt_table: the system refuses %.0f MiB of addresses (ulimit -v, or "
                 "vm.overcommit_memory=2); going on with %.0f MiB\n",
                 mebibytes(options.entries * sizeof(double)), mebibytes(granted * sizeof(double)));
  }
  return std::move(*table);
}

/// The course's condition: from here on the process gets no more memory. True if that holds.
bool limit_memory() {
  constexpr std::uint64_t kSlack = 64 * 1024;  // arbitrary: room for what printing needs
  const auto addresses = example::status_bytes("VmSize");
  const auto data = example::status_bytes("VmData");
  if (!addresses || !data) {
    std::fputs("sqrt_table: /proc/self/status cannot be read\n", stderr);
    return false;
  }
  const rlimit address_limit{*addresses + kSlack, *addresses + kSlack};
  const rlimit data_limit{*data + kSlack, *data + kSlack};
  if (setrlimit(RLIMIT_AS, &address_limit) != 0 || setrlimit(RLIMIT_DATA, &data_limit) != 0) {
    std::fprintf(stderr, "sqrt_table: setrlimit: %s\n", std::strerror(errno));
    return false;
  }
  void* const more = mmap(nullptr, std::size_t{1} << 20, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (more != MAP_FAILED) {
    std::fputs("sqrt_table: the limit does not hold: 1 MiB more was granted\n", stderr);
    return false;
  }
  return true;
}

/// What --check-resident saw.
struct Residency {
  std::uint64_t samples = 0;
  std::size_t most_pages = 0;
  bool failed = false;
};

/// Counts the resident pages while nothing moves: the count walks the page tables, and a page that
/// leaves behind it while another comes before it would be counted with it.
void sample_residency(SqrtTable& table, SqrtReaders& readers, Residency& seen) {
  readers.stand_still();
  table.region().quiesce();  // handler threads may still be at work for a reader that was woken
  const auto pages = example::resident_pages(table.region().range());
  readers.run();
  if (!pages) {
    seen.failed = true;
    return;
  }
  ++seen.samples;
  seen.most_pages = std::max(seen.most_pages, pages->count());
}

Residency check_values(SqrtTable& table, SqrtReaders& readers, const SqrtOptions& options) {
  Residency seen;
  const auto end = Clock::now() + std::chrono::duration<double>(options.seconds);
  readers.run();
  while (Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (options.check_resident) sample_residency(table, readers, seen);
  }
  if (options.check_resident && seen.samples == 0) sample_residency(table, readers, seen);
  readers.stand_still();
  return seen;
}

/// Prints the figures; true if all is as it should be.
bool report(SqrtTable& table, const SqrtCounts& counts, const Residency& seen,
            const SqrtOptions& options) {
  std::printf("table            %" PRIu64 " entries, %.0f MiB of addresses, backend %s\n",
              table.entries(), mebibytes(table.region().size_bytes()),
              pagetrap::name(table.region().backend()));
  std::printf("validated        %" PRIu64 " at random, %" PRIu64 " in runs, by %u threads\n",
              counts.random, counts.sequential, options.threads);
  std::printf("faults           %" PRIu64 ", %.0f per second\n", table.faults(),
              static_cast<double>(table.faults()) / options.seconds);
  std::printf("resident pages   at most %zu admitted\n", table.page_limit());
  bool right = counts.wrong == 0 && counts.random > 0 && counts.sequential > 0;
  if (options.check_resident) {
    const bool within = !seen.failed && seen.most_pages <= table.page_limit();
    right = right && within;
    std::printf("                 at most %zu seen in %" PRIu64 " samples%s\n", seen.most_pages,
                seen.samples,
                within        ? ""
                : seen.failed ? ": NOT COUNTED"
                              : ": TOO MANY");
  }
  std::printf("page tables      %.1f MiB of the kernel's, one page for each 2 MiB touched\n",
              mebibytes(example::status_bytes("VmPTE").value_or(0)));
  if (counts.wrong > 0) {
    std::printf("verdict          WRONG: %" PRIu64 " values, the first at entry %" PRIu64 "\n",
                counts.wrong, counts.first_wrong);
  } else {
    std::printf("verdict          %s\n", right ? "all values right" : "FAILED");
  }
  return right;
}

int run(const SqrtOptions& options) {
  const auto table = create_table(options.table);
  if (table == nullptr) return 3;
  SqrtCounts counts;
  Residency seen;
  {
    SqrtReaders readers(*table, options.threads, options.seed);
    if (options.limit_memory && !limit_memory()) return 1;
    seen = check_values(*table, readers, options);
    counts = readers.counts();
  }
  return report(*table, counts, seen, options) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto options = example::parse_sqrt_options(argc, argv);
  return options ? run(*options) : 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "sqrt_table: %s\n", error.what());
  return 3;
}

// What the tests of the pager share.
#pragma once

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <pagetrap/pager/pager.hpp>

#include "sys/fd.hpp"
#include "sys/pagemap.hpp"

namespace pagetrap::pager {

inline constexpr std::uint64_t kPerPage = 512;  // doubles in 4 KiB; tests use page_size() / 8

inline std::uint64_t words_in_page() { return page_size() / sizeof(std::uint64_t); }

/// What word `at` of a computed page is.
inline std::uint64_t mixed(std::uint64_t at) {
  std::uint64_t z = at + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

/// Pages of mixed() words.
inline auto mixed_pages() {
  return computed([](std::uint64_t index, std::byte* bytes) noexcept {
    const std::uint64_t count = words_in_page();
    auto* const words = reinterpret_cast<std::uint64_t*>(bytes);
    for (std::uint64_t i = 0; i < count; ++i) words[i] = mixed(index * count + i);
  });
}

/// A source that keeps pages in ordinary memory, a byte for byte copy. Counts calls, and fails
/// where a test wants it to.
class StoreSource final : public Source {
 public:
  explicit StoreSource(std::uint64_t pages, SourceTraits traits = {})
      : traits_(traits), bytes_(pages * page_size()) {}

  [[nodiscard]] SourceTraits traits() const noexcept override { return traits_; }

  Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    Transfer transfer;
    for (const PageRef& page : pages) {
      fills.fetch_add(1);
      if (page.index == failing_page.load() && failures_left.load() > 0) {
        failures_left.fetch_sub(1);
        transfer.error = Error{"StoreSource::fill", failing_with.load()};
        return transfer;
      }
      std::memcpy(page.bytes, at(page.index), page_size());
      ++transfer.done;
    }
    return transfer;
  }
  Transfer write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    Transfer transfer;
    for (const PageRef& page : pages) {
      writes.fetch_add(1);
      if (refuses_writes.load()) {
        transfer.error = Error{"StoreSource::write_back", ENOSPC};
        return transfer;
      }
      if (traits_.finds_changes && std::memcmp(at(page.index), page.bytes, page_size()) == 0)
        ++transfer.unchanged;
      std::memcpy(at(page.index), page.bytes, page_size());
      ++transfer.done;
    }
    return transfer;
  }
  void forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE override {
    std::memset(at(first), 0, count * page_size());
  }
  [[nodiscard]] std::byte* at(std::uint64_t page) noexcept { return &bytes_[page * page_size()]; }
  [[nodiscard]] std::uint64_t word(std::uint64_t page, std::uint64_t i) noexcept {
    return reinterpret_cast<std::uint64_t*>(at(page))[i];
  }

  std::atomic<std::uint64_t> fills{0};
  std::atomic<std::uint64_t> writes{0};
  std::atomic<std::uint64_t> failing_page{~std::uint64_t{0}};
  std::atomic<int> failures_left{0};
  std::atomic<int> failing_with{EIO};
  std::atomic<bool> refuses_writes{false};

 private:
  const SourceTraits traits_;
  std::vector<std::byte> bytes_;
};

/// The ways that faults can be served here.
struct Way {
  const char* name;
  BackendId backend;
};
inline constexpr Way kWays[] = {
    {"uffd_inline", BackendId::uffd_inline},
    {"uffd_thread", BackendId::uffd_thread},
    {"mprotect", BackendId::mprotect},
};
inline std::string way_name(const ::testing::TestParamInfo<Way>& info) { return info.param.name; }

/// A region, or a skipped test where the way does not exist on this machine.
inline bool is_available(const Way& way) {
  return capabilities(way.backend, Backing::anonymous)
      .faults.covers(FaultKind::missing | FaultKind::write_protected);
}

/// How many pages of `range` are in memory, as the kernel has it.
inline std::size_t resident_in(PageRange range) {
  const sys::Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::vector<PageRange> found;
  return sys::scan_present(pagemap.get(), range, found).value().count();
}

inline volatile std::uint64_t* words(const Region& region) {
  return reinterpret_cast<volatile std::uint64_t*>(region.data());
}

}  // namespace pagetrap::pager

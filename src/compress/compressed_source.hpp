// CompressedSourceState: what a CompressedSource has.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

#include <pagetrap/compress/compressed_source.hpp>

#include "compress/costs.hpp"
#include "compress/lock.hpp"
#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// Where the only good contents of a page are.
enum class Whose : std::uint8_t {
  ours,     // in the store, or zeroes; also what fill() gave and nobody has confirmed
  program,  // in memory: a copy in the store is a retained one, and may be let go
};

/// What the copy of a page is that is the program's.
enum class Copy : std::uint8_t {
  none,
  retained,  // since the page arrived
  prepared,  // since its snapshot was taken
};

inline constexpr unsigned kOldest = 15;

struct CompressedSourceState {
  CompressedSourceState(PageStore made, sys::Mapping table, std::size_t count)
      : store(std::move(made)), records(std::move(table)), pages(count) {}

  /// One for each page. Zeroes: nobody has written it.
  struct Record {
    std::uint64_t hash;
    std::uint32_t blob;
    PageClass page_class;
    std::uint8_t codec;
    Whose whose : 4;
    std::uint8_t age : 4;  // of ours: times that the sweep has passed by, see ageing.cpp
    Copy copy;

    [[nodiscard]] StoredPage stored() const noexcept PAGETRAP_SIGNAL_SAFE {
      return {hash, blob, page_class, codec};
    }
    void set(const StoredPage& page) noexcept PAGETRAP_SIGNAL_SAFE {
      hash = page.hash;
      blob = page.blob;
      page_class = page.page_class;
      codec = page.codec;
    }
  };
  static_assert(sizeof(Record) == 16);

  static void* operator new(std::size_t size) { return CompressedSource::operator new(size); }
  static void operator delete(void* state, std::size_t size) noexcept {
    CompressedSource::operator delete(state, size);
  }

  [[nodiscard]] Record& record(std::uint64_t page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<Record*>(records.data())[page];
  }
  /// Guards the records of some pages; held while one is compressed or expanded.
  [[nodiscard]] Lock& lock_of(std::uint64_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    return locks[page % locks.size()];
  }

  // All with the page's lock held.
  void let_go(Record& record) noexcept PAGETRAP_SIGNAL_SAFE;
  void mark(Record& record, Copy copy) noexcept PAGETRAP_SIGNAL_SAFE;
  void put_in_place(Record& record, const StoredPage& stored) noexcept PAGETRAP_SIGNAL_SAFE;
  Error replace(Record& record, std::span<const std::byte> page, std::uint64_t hash) noexcept
      PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] bool may_retain_more() noexcept PAGETRAP_SIGNAL_SAFE;
  void adapt() noexcept PAGETRAP_SIGNAL_SAFE;

  // Of the helper thread.
  void prepare(std::uint64_t index, std::span<const std::byte> snapshot) noexcept;
  void learn_from(std::span<const std::byte> page);
  void age(std::size_t pages_past) noexcept;
  /// Ours, and compressed by the warm codec: by the cold one. With the page's lock held.
  Error chill(Record& record) noexcept;

  PageStore store;
  sys::Mapping records;
  std::size_t pages;
  bool spills = false;
  unsigned retain_least = 0;
  unsigned retain_most = 0;
  std::atomic<unsigned> sixteenths{0};
  std::atomic<std::uint32_t> turns{0};
  std::array<Lock, 256> locks;

  std::atomic<std::size_t> stored_pages{0};  // with a blob, retained or not
  std::atomic<std::size_t> retained_pages{0};
  std::atomic<std::size_t> kept_pages{0};  // of these not the prepared ones
  std::atomic<std::uint64_t> filled{0};
  std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> unchanged{0};
  std::atomic<std::uint64_t> prepared{0};
  std::atomic<std::uint64_t> given_up{0};
  std::atomic<std::size_t> arrived_pages{0};  // the program's
  Costs costs;

  // The helper thread's, and a thread's that it starts.
  sys::Mapping lessons;
  std::size_t lessons_wanted = 0;
  std::size_t lessons_taken = 0;
  std::size_t snapshots_seen = 0;
  std::size_t sweep = 0;  // the next page to look at
  unsigned chill_after = 0;
  unsigned spill_after = 0;
  std::atomic<std::uint64_t> chilled{0};
  std::atomic<std::uint64_t> aged_out{0};
  std::unique_ptr<std::thread> learning;
  std::atomic<bool> learnt{false};
  std::atomic<bool> lessons_over{false};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

// PageStoreState: what a PageStore points to.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include <pagetrap/compress/page_store.hpp>

#include "compress/codec_table.hpp"
#include "compress/content_hash.hpp"
#include "compress/pool/blob_store.hpp"
#include "compress/workspaces.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct PageStoreState {
  PageStoreState(std::size_t budget_bytes, const ContentHash& content_hash) noexcept
      : budget(budget_bytes), hash(content_hash), blobs(budget) {}

  static PageStoreState& of(PageStore& store) noexcept { return *store.state_; }

  [[nodiscard]] std::atomic<std::size_t>& pages_of(PageClass which) noexcept PAGETRAP_SIGNAL_SAFE {
    return pages[static_cast<std::size_t>(which)];
  }

  sys::Mapping memory;  // that this object is in
  Budget budget;
  ContentHash hash;
  BlobStore blobs;
  CodecTable codecs;
  Workspaces workspaces;
  std::mutex installing;  // never on the fault path
  bool signals_blocked = false;
  std::array<std::atomic<std::size_t>, 5> pages{};  // by class
  std::atomic<std::size_t> spilled{0};
  std::atomic<std::uint64_t> stored{0};
  std::atomic<std::uint64_t> loaded{0};
  std::atomic<std::uint64_t> damaged{0};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

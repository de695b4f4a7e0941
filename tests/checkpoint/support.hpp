// What the tests of checkpoints share: the kinds of cut that this machine has, a folder that goes
// away, and the contents of an image without a restore.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "checkpoint/checkpointer.hpp"
#include "checkpoint/image/chain.hpp"
#include "support/folder.hpp"

namespace pagetrap::checkpoint {

/// A way to take cuts.
struct Way {
  const char* name;
  Cut cut;
  bool kernel_accesses;
  bool incremental = true;
  // Page tables are lifted and come back in pieces, however little is written: small and quiet
  // heaps would be protected where they are.
  bool pieces = false;
};
inline constexpr Way kWays[] = {
    {"lift_in_thread", Cut::lift, false},
    {"lift_by_handlers", Cut::lift, true},
    {"write_protect_in_thread", Cut::write_protect, false},
    {"write_protect_by_handlers", Cut::write_protect, true},
    {"pieces_in_thread", Cut::lift, false, false, true},
    {"pieces_by_handlers", Cut::lift, true, true, true},
    {"protection_key", Cut::protection_key, false},
};
inline std::string way_name(const ::testing::TestParamInfo<Way>& info) { return info.param.name; }

inline CheckpointerOptions options_for(const Way& way) {
  CheckpointerOptions options;
  options.cut = way.cut;
  options.kernel_accesses = way.kernel_accesses;
  options.incremental = way.incremental;
  return options;
}
inline void set_way(Checkpointer& checkpointer, const Way& way) {
  CheckpointerState::of(checkpointer).always_lift = way.pieces;
}

/// The first `length` bytes of a region as the image at `path` and its parents have them.
inline std::vector<std::byte> contents(const std::string& path, const std::string& region,
                                       std::size_t length) {
  std::vector<std::byte> all(length);
  auto chain = Chain::open(path);
  EXPECT_TRUE(chain) << (chain ? "" : describe(chain.error()));
  if (!chain) return all;
  const auto& regions = (*chain)->info().regions;
  std::vector<std::byte> pages(512 * page_size());
  std::vector<std::byte> scratch;
  for (const ChainBlock& block : (*chain)->blocks()) {
    const auto loaded =
        (*chain)->load(block, std::span(pages).first(block.pages * page_size()), scratch);
    EXPECT_TRUE(loaded) << (loaded ? "" : describe(loaded.error()));
    for (const ChainPiece& piece : (*chain)->pieces(block)) {
      const std::size_t at = piece.first_page * page_size();
      if (regions[piece.region].name != region || at >= length) continue;
      std::copy_n(pages.begin() + static_cast<std::ptrdiff_t>(piece.page_in_block * page_size()),
                  std::min(piece.pages * page_size(), length - at),
                  all.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  return all;
}

}  // namespace pagetrap::checkpoint

// What changed in a page, as runs of a log record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Appends the runs in which `now` differs from `before` between `begin` and `end` of the page, in
/// units of 8 bytes, to `out`. Runs with
/// less than three equal units between them are joined: the word between two runs is not free
/// either. Returns whether there is any.
bool diff_page(PageNumber page, const std::byte* before, const std::byte* now, std::size_t begin,
               std::size_t end, std::vector<std::byte>& out);

/// Calls `visit(run, bytes)` for each run of a payload that diff_page() made.
template <class Visit>
void for_each_run(const std::vector<std::byte>& payload, Visit&& visit) {
  for (std::size_t at = 0; at < payload.size();) {
    std::uint64_t word = 0;
    __builtin_memcpy(&word, payload.data() + at, sizeof word);
    const Run run = Run::unpack(word);
    visit(run, payload.data() + at + sizeof word);
    at += sizeof word + run.length;
  }
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

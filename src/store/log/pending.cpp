#include "store/log/pending.hpp"

#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace store {

Result<PendingRuns> PendingRuns::create(std::size_t pages, std::size_t log_bytes) {
  PendingRuns made;
  auto payloads = SparseArray<std::byte>::create(log_bytes);
  auto first = SparseArray<std::uint32_t>::create(pages);
  auto last = SparseArray<std::uint32_t>::create(pages);
  if (!payloads) return payloads.error();
  if (!first) return first.error();
  if (!last) return last.error();
  made.payloads_ = std::move(*payloads);
  made.first_ = std::move(*first);
  made.last_ = std::move(*last);
  return made;
}

bool PendingRuns::add(std::size_t payload_bytes) {
  const std::byte* const begin = next_payload();
  const auto run_at = [&](std::size_t at) {
    std::uint64_t word = 0;
    std::memcpy(&word, begin + at, sizeof word);
    return Run::unpack(word);
  };
  for (std::size_t at = 0; at < payload_bytes;) {
    if (payload_bytes - at < sizeof(std::uint64_t)) return false;
    const Run run = run_at(at);
    at += sizeof(std::uint64_t);
    const std::uint64_t in_page = run.place % kPageBytes;
    if (run.length == 0 || in_page + run.length > kPageBytes || run.place % 8 != 0 ||
        run.length > payload_bytes - at || run.place / kPageBytes >= first_.size())
      return false;
    at += run.length;
  }
  for (std::size_t at = 0; at < payload_bytes;) {
    const Run run = run_at(at);
    const auto page = static_cast<PageNumber>(run.place / kPageBytes);
    links_.push_back({0, static_cast<std::uint32_t>((used_ + at) / 8)});
    const auto name = static_cast<std::uint32_t>(links_.size());
    if (first_[page] == 0) {
      first_[page] = name;
      pages_.push_back(page);
    } else {
      links_[last_[page] - 1].next = name;
    }
    last_[page] = name;
    at += sizeof(std::uint64_t) + run.length;
  }
  used_ += payload_bytes;
  return true;
}

void PendingRuns::apply(PageNumber page, std::byte* contents) const noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::uint32_t name = first_[page]; name != 0;) {
    const Link& link = links_.data()[name - 1];
    const std::byte* const at = payloads_.data() + std::size_t{link.word} * 8;
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    const Run run = Run::unpack(word);
    std::memcpy(contents + run.place % kPageBytes, at + sizeof word, run.length);
    name = link.next;
  }
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

// What a commit has to do with words that are pointers: their form in the log, and whether they
// lead out of the store.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "store/kept_text.hpp"
#include "store/pages/diff.hpp"
#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr int kMostLines = 8;  // of one transaction, on stderr

std::string hexadecimal(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%lx", static_cast<unsigned long>(number));
  return text;
}

}  // namespace

// A word that is no pointer any more, or has become one, and looks like an address: in the file it
// has another form now, though in memory it may be the same. Logged, so that the file has it; after
// its page is in the image, which still goes by the old map.
Outcome StoreState::add_retyped() {
  if (retyped_.lost) return {"transaction", ENOMEM, {}, "for what has changed"};
  if (forms_ == nullptr) return kDone;
  for (const Retyped::Words& words : retyped_.words) {
    for (std::uint64_t place = words.place; place < words.place + words.bytes; place += 8) {
      std::uint64_t value = 0;
      std::memcpy(&value, base_ + place, sizeof value);
      if (!forms_->changes(value)) continue;
      const auto page = static_cast<PageNumber>(place / kPageBytes);
      if (const Outcome outcome = committed_->materialise(page); failed(outcome)) return outcome;
      const std::uint64_t head = Run::pack(place, sizeof value);
      const auto* const bytes = reinterpret_cast<const std::byte*>(&head);
      payload_.insert(payload_.end(), bytes, bytes + sizeof head);
      payload_.insert(payload_.end(), base_ + place, base_ + place + sizeof value);
    }
  }
  return kDone;
}

const std::vector<std::byte>& StoreState::payload_for_file() {
  if (forms_ == nullptr) return payload_;
  file_payload_ = payload_;
  forms_->to_file(file_payload_, heap_.map(), retyped_);
  return file_payload_;
}

Outcome StoreState::check_pointers() {
  if (!options_.check_pointers) return kDone;
  const HeapHeader& header = heap_.header();
  const bool typed = header.map_directory != 0 && untyped_bytes(header) == 0;
  const auto ours = reinterpret_cast<std::uintptr_t>(base_) - kOwnBytes;
  const auto is_table = [&](PageNumber page) {
    return tables_.has(page) ||
           std::find(retyped_.tables.begin(), retyped_.tables.end(), page) != retyped_.tables.end();
  };
  stray_pointers_.begin();
  Outcome found = kDone;
  int lines = 0;
  for_each_run(payload_, [&](const Run& run, const std::byte* bytes) {
    const auto page = static_cast<PageNumber>(run.place / kPageBytes);
    if (page < kHotPages || is_table(page) || (failed(found) && found.number != EFAULT)) return;
    for (std::size_t at = 0; at < run.length; at += 8) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes + at, sizeof value);
      if (value - ours <= kOwnBytes + block_.reserve_bytes) continue;
      if (typed && !heap_.map().is_marked(run.place + at)) continue;
      const auto what = stray_pointers_.what_is_at(value);
      if (!what) found = what.error();
      if (!what || what->empty()) continue;
      const auto* const place = base_ + run.place + at;
      const std::string text =
          "the word at " + hexadecimal(reinterpret_cast<std::uintptr_t>(place)) + ", byte " +
          std::to_string(run.place + at) + " of the store, is " + hexadecimal(value) + ": " + *what;
      if (lines++ < kMostLines) std::fprintf(stderr, "pagetrap store: %s\n", text.c_str());
      if (!failed(found)) found = {"pointer that leaves the store", EFAULT, {}, kept_text(text)};
    }
  });
  return found;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

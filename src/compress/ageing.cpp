// Ageing: pages that stay away are stored in fewer bytes, and then in the file. In the pager's
// helper thread.
//
// A sweep goes round the records, one for each page that leaves memory, and counts how often it has
// passed a page by since that left. Of an array whose pages are touched at random, half of it in
// memory, one absent page in seven stays away for a round and one in fifty for the two that the
// age of 3 takes at least. So few are compressed twice for nothing, at 25 us, and few that come
// back expand slowly, in 8 us instead of 2.
#include <cerrno>

#include "compress/compressed_source.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Error CompressedSourceState::chill(Record& record) noexcept {
  const auto made = store.again(record.stored(), Tier::cold);
  if (!made) return made.error();
  static_cast<void>(store.release(record.stored()));  // it is there: `again` has just read it
  record.set(*made);
  return {};
}

// What cannot be stored in another way stays as it is, and is not tried again before it has left
// memory once more: it has passed that age.
void CompressedSourceState::age(std::size_t pages_past) noexcept {
  for (; pages_past > 0; --pages_past) {
    const std::uint64_t page = sweep;
    sweep = sweep + 1 == pages ? 0 : sweep + 1;
    const Held held(lock_of(page));
    Record& old = record(page);
    if (old.whose != Whose::ours || old.page_class == PageClass::none || old.age == kOldest)
      continue;
    ++old.age;
    if (old.age == chill_after && old.page_class == PageClass::compressed && chill(old).number == 0)
      chilled.fetch_add(1, std::memory_order_relaxed);
    if (old.age == spill_after && old.page_class != PageClass::zero && store.spill(old.stored()))
      aged_out.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

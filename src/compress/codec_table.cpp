#include "compress/codec_table.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<Done> CodecTable::install(std::unique_ptr<Codec> codec, Tier tier) {
  unsigned chosen = kNotYet;
  std::size_t own = codec->own_bytes();
  std::size_t scratch = codec->scratch_bytes();
  for (unsigned i = 0; i < kSlots; ++i) {
    Slot& slot = slots_[i];
    if (!is_current(i) && slot.users.load() == 0 && slot.pages.load() == 0) {
      if (chosen == kNotYet) chosen = i;
      slot.codec.reset();
    }
    if (slot.codec == nullptr) continue;
    own += slot.codec->own_bytes();
    scratch = std::max(scratch, slot.codec->scratch_bytes());
  }
  if (chosen == kNotYet)
    return Error{"PageStore::use", EAGAIN, {}, "release pages that earlier codecs have made"};
  slots_[chosen].codec = std::move(codec);
  slots_[chosen].serial = ++last_serial_;
  current_[static_cast<unsigned>(tier)].store(chosen);
  own_bytes_.store(own, std::memory_order_relaxed);
  scratch_bytes_.store(scratch, std::memory_order_relaxed);
  return Done{};
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

#include "compress/codecs/lz4_encoder.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

constexpr unsigned kDictionaryBits = 15;
constexpr unsigned kPageBits = 12;
constexpr std::size_t kLeast = 4;       // of a match
constexpr std::size_t kLastBytes = 5;   // are literals
constexpr std::size_t kLastStart = 12;  // no match begins so near the end
constexpr unsigned kPatience =
    6;  // after 2^6 positions without a match steps grow longer, as LZ4's

std::uint32_t four(const std::byte* at) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::uint32_t hash(std::uint32_t value, unsigned bits) noexcept PAGETRAP_SIGNAL_SAFE {
  return (value * 2654435761U) >> (32 - bits);
}

/// How many bytes at `a` and `b` are equal, at most `most`.
std::size_t common(const std::byte* a, const std::byte* b, std::size_t most) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t length = 0;
  for (; length + 8 <= most; length += 8) {
    std::uint64_t x = 0;
    std::uint64_t y = 0;
    std::memcpy(&x, a + length, 8);
    std::memcpy(&y, b + length, 8);
    if (x != y) return length + static_cast<std::size_t>(std::countr_zero(x ^ y)) / 8;
  }
  while (length < most && a[length] == b[length]) ++length;
  return length;
}

/// The block as it grows. Once it is full it stays so.
class Block {
 public:
  explicit Block(std::span<std::byte> out) noexcept PAGETRAP_SIGNAL_SAFE : out_(out) {}

  /// Literals and then a match; a length of 0: the end.
  void add(std::span<const std::byte> literals, std::size_t offset, std::size_t length) noexcept
      PAGETRAP_SIGNAL_SAFE {
    const std::size_t match = length == 0 ? 0 : length - kLeast;
    const std::size_t most = 1 + literals.size() / 255 + 1 + literals.size() + 2 + match / 255 + 1;
    if (out_.size() - size_ < most) {
      full_ = true;
      return;
    }
    const std::size_t token = size_++;
    const std::size_t high = field(literals.size());
    if (!literals.empty()) std::memcpy(out_.data() + size_, literals.data(), literals.size());
    size_ += literals.size();
    std::size_t low = 0;
    if (length != 0) {
      out_[size_++] = static_cast<std::byte>(offset);
      out_[size_++] = static_cast<std::byte>(offset >> 8);
      low = field(match);
    }
    out_[token] = static_cast<std::byte>(high << 4 | low);
  }
  [[nodiscard]] bool full() const noexcept PAGETRAP_SIGNAL_SAFE { return full_; }
  [[nodiscard]] std::size_t size() const noexcept PAGETRAP_SIGNAL_SAFE { return full_ ? 0 : size_; }

 private:
  /// Writes what does not fit into four bits; returns those.
  std::size_t field(std::size_t value) noexcept PAGETRAP_SIGNAL_SAFE {
    if (value < 15) return value;
    for (value -= 15; value >= 255; value -= 255) out_[size_++] = std::byte{255};
    out_[size_++] = static_cast<std::byte>(value);
    return 15;
  }
  std::span<std::byte> out_;
  std::size_t size_ = 0;
  bool full_ = false;
};

struct Match {
  std::size_t offset = 0;
  std::size_t start = 0;   // in the page
  std::size_t length = 0;  // 0: none
};

}  // namespace

Result<Lz4Encoder> Lz4Encoder::create(std::span<const std::byte> dictionary) {
  auto table = own_memory((std::size_t{1} << kDictionaryBits) * sizeof(std::uint16_t),
                          "pagetrap dictionary");
  if (!table) return table.error();
  auto* const places = reinterpret_cast<std::uint16_t*>(table->data());
  for (std::size_t at = 0; at + kLeast <= dictionary.size(); ++at)
    places[hash(four(dictionary.data() + at), kDictionaryBits)] = static_cast<std::uint16_t>(at);
  Lz4Encoder encoder;
  encoder.dictionary_ = dictionary;
  encoder.table_ = std::move(*table);
  return encoder;
}

std::size_t Lz4Encoder::encode(std::span<const std::byte> page, std::span<std::byte> out,
                               std::span<std::byte> scratch) const noexcept PAGETRAP_SIGNAL_SAFE {
  Block block(out);
  const std::byte* const from = page.data();
  const std::byte* const words = dictionary_.data();
  const auto* const in_dictionary = reinterpret_cast<const std::uint16_t*>(table_.data());
  auto* const in_page = reinterpret_cast<std::uint16_t*>(scratch.data());
  std::memset(in_page, 0, kScratch);  // an index + 1

  std::size_t written = 0;
  // The longer one of what the page and the dictionary have, extended to both sides.
  const auto find = [&](std::size_t at) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint32_t value = four(from + at);
    const std::size_t most = page.size() - kLastBytes - at;
    Match best;
    std::uint16_t& seen = in_page[hash(value, kPageBits)];
    const std::size_t earlier = std::exchange(seen, static_cast<std::uint16_t>(at + 1));
    if (earlier != 0 && four(from + earlier - 1) == value) {
      std::size_t place = earlier - 1;
      std::size_t start = at;
      std::size_t length =
          kLeast + common(from + place + kLeast, from + at + kLeast, most - kLeast);
      for (; start > written && place > 0 && from[start - 1] == from[place - 1]; ++length) {
        --start;
        --place;
      }
      best = {start - place, start, length};
    }
    std::size_t place = in_dictionary[hash(value, kDictionaryBits)];
    if (dictionary_.size() >= kLeast && four(words + place) == value) {
      const std::size_t left = std::min(most, dictionary_.size() - place);
      std::size_t start = at;
      std::size_t length =
          kLeast + common(words + place + kLeast, from + at + kLeast, left - kLeast);
      for (; start > written && place > 0 && from[start - 1] == words[place - 1]; ++length) {
        --start;
        --place;
      }
      if (length > best.length) best = {start + dictionary_.size() - place, start, length};
    }
    return best;
  };

  if (page.size() > kLastStart) {
    const std::size_t last = page.size() - kLastStart;
    std::size_t misses = std::size_t{1} << kPatience;
    for (std::size_t at = 0; at <= last && !block.full();) {
      Match match = find(at);
      if (match.length == 0) {
        at += misses++ >> kPatience;
        continue;
      }
      // A longer one that begins one further on is worth a literal.
      if (at + 1 <= last) {
        const Match next = find(at + 1);
        if (next.length > match.length + 1) match = next;
      }
      misses = std::size_t{1} << kPatience;
      block.add(page.subspan(written, match.start - written), match.offset, match.length);
      written = at = match.start + match.length;
      if (at - 2 <= last)
        in_page[hash(four(from + at - 2), kPageBits)] = static_cast<std::uint16_t>(at - 1);
    }
  }
  block.add(page.subspan(written), 0, 0);
  return block.size();
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

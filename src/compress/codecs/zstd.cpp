// zstd, alone and with a dictionary.
//
// WHY the interface that zstd marks as "for static linking": it alone lets contexts lie in memory
// that we give, and such contexts cannot allocate. These functions have kept their form since 1.3
// (2017), and libzstd.so exports them.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <pagetrap/compress/codec.hpp>

#include "compress/codecs/bytes.hpp"
#include "compress/codecs/dictionary.hpp"
#include "compress/own_memory.hpp"
#include "compress/unproved.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kDictionary = 64_KiB;

std::size_t rounded(std::size_t size) noexcept PAGETRAP_SIGNAL_SAFE {
  return (size + kAlignment - 1) & ~(kAlignment - 1);
}

/// What a dictionary becomes, for each direction.
struct Digested {
  Dictionary dictionary;
  sys::Mapping memory;
  const ZSTD_CDict* compressing = nullptr;
  const ZSTD_DDict* expanding = nullptr;
};

class Zstd final : public Codec {
 public:
  explicit Zstd(int level, Digested digested = {})
      : level_(level), digested_(std::move(digested)), sizes_(sizes(0)) {
    // zstd's estimate for a dictionary is of ten times what it takes for a page: tried out.
    if (!works()) sizes_ = sizes(kDictionary);
  }

  [[nodiscard]] const char* name() const noexcept PAGETRAP_SIGNAL_SAFE override {
    return digested_.compressing != nullptr ? "zstd+dictionary" : "zstd";
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override {
    return sizeof(Contexts) + kAlignment + rounded(sizes_.expander) + sizes_.compressor;
  }
  void prepare(std::span<std::byte> scratch) const noexcept PAGETRAP_SIGNAL_SAFE override {
    *reinterpret_cast<Contexts*>(scratch.data()) = {};
  }

  [[nodiscard]] std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out,
                                     std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    std::size_t length = 0;
    unproved([&] {
      ZSTD_CCtx* const context = compressor(scratch);
      if (context == nullptr) return;
      const std::size_t made =
          ZSTD_compress2(context, out.data(), out.size(), page.data(), page.size());
      if (ZSTD_isError(made) == 0) length = made;
    });
    return length;
  }
  [[nodiscard]] bool expand(std::span<const std::byte> blob, std::span<std::byte> page,
                            std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    bool whole = false;
    unproved([&] {
      ZSTD_DCtx* const context = expander(scratch);
      if (context == nullptr) return;
      whole = ZSTD_decompressDCtx(context, page.data(), page.size(), blob.data(), blob.size()) ==
              page.size();
    });
    return whole;
  }
  [[nodiscard]] Result<std::unique_ptr<Codec>> train(
      std::span<const std::byte> pages) const override;

  [[nodiscard]] std::size_t own_bytes() const noexcept override {
    if (digested_.compressing == nullptr) return 0;
    return digested_.dictionary.memory.range().size_bytes() +
           digested_.memory.range().size_bytes() + bytes(pages_for(sizeof *this));
  }

 private:
  // At the front of scratch: null, or in the scratch behind it. Each is made when it is needed, so
  // that threads that only expand commit no memory for compressing.
  struct Contexts {
    ZSTD_CCtx* compressor;
    ZSTD_DCtx* expander;
  };
  struct Sizes {
    std::size_t compressor;
    std::size_t expander;
  };
  [[nodiscard]] Sizes sizes(std::size_t dictionary) const {
    const std::size_t compressor =
        ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level_, page_size(), dictionary));
    return {compressor + compressor / 2, ZSTD_estimateDCtxSize()};
  }
  [[nodiscard]] bool works() const {
    const auto scratch = own_memory(scratch_bytes(), "pagetrap codec");
    const auto pages = own_memory(2 * page_size(), "pagetrap codec");
    if (!scratch || !pages) return false;
    prepare({scratch->data(), scratch_bytes()});
    return compress({pages->data(), page_size()}, {pages->data() + page_size(), page_size()},
                    {scratch->data(), scratch_bytes()}) != 0;
  }

  ZSTD_CCtx* compressor(std::span<std::byte> scratch) const noexcept {
    auto& contexts = *reinterpret_cast<Contexts*>(scratch.data());
    if (contexts.compressor != nullptr) return contexts.compressor;
    const std::size_t front = rounded(sizeof(Contexts)) + rounded(sizes_.expander);
    ZSTD_CCtx* const made = ZSTD_initStaticCCtx(scratch.data() + front, sizes_.compressor);
    // The format without the magic number would save 4 bytes: libzstd 1.5.4 reads it past its end.
    if (made == nullptr || failed(ZSTD_CCtx_setParameter(made, ZSTD_c_compressionLevel, level_)) ||
        failed(ZSTD_CCtx_setParameter(made, ZSTD_c_contentSizeFlag, 1)) ||
        failed(ZSTD_CCtx_setParameter(made, ZSTD_c_dictIDFlag, 0)) ||
        (digested_.compressing != nullptr &&
         failed(ZSTD_CCtx_refCDict(made, digested_.compressing))))
      return nullptr;
    contexts.compressor = made;
    return made;
  }
  ZSTD_DCtx* expander(std::span<std::byte> scratch) const noexcept {
    auto& contexts = *reinterpret_cast<Contexts*>(scratch.data());
    if (contexts.expander != nullptr) return contexts.expander;
    ZSTD_DCtx* const made =
        ZSTD_initStaticDCtx(scratch.data() + rounded(sizeof(Contexts)), sizes_.expander);
    if (made == nullptr ||
        (digested_.expanding != nullptr && failed(ZSTD_DCtx_refDDict(made, digested_.expanding))))
      return nullptr;
    contexts.expander = made;
    return made;
  }
  static bool failed(std::size_t result) noexcept { return ZSTD_isError(result) != 0; }

  int level_;
  Digested digested_;
  Sizes sizes_;
};

Result<std::unique_ptr<Codec>> Zstd::train(std::span<const std::byte> pages) const {
  auto dictionary = train_dictionary(pages, kDictionary);
  if (!dictionary) return dictionary.error();
  Digested digested;
  digested.dictionary = std::move(*dictionary);
  const std::span<const std::byte> words = digested.dictionary.bytes;
  const ZSTD_compressionParameters parameters = ZSTD_getCParams(level_, page_size(), words.size());
  const std::size_t compressing =
      ZSTD_estimateCDictSize_advanced(words.size(), parameters, ZSTD_dlm_byRef);
  const std::size_t expanding = ZSTD_estimateDDictSize(words.size(), ZSTD_dlm_byRef);
  auto memory = own_memory(rounded(compressing) + expanding, "pagetrap dictionary");
  if (!memory) return memory.error();
  digested.memory = std::move(*memory);
  digested.compressing =
      ZSTD_initStaticCDict(digested.memory.data(), compressing, words.data(), words.size(),
                           ZSTD_dlm_byRef, ZSTD_dct_fullDict, parameters);
  digested.expanding =
      ZSTD_initStaticDDict(digested.memory.data() + rounded(compressing), expanding, words.data(),
                           words.size(), ZSTD_dlm_byRef, ZSTD_dct_fullDict);
  if (digested.compressing == nullptr || digested.expanding == nullptr)
    return Error{"training a dictionary", EINVAL, {}, "zstd does not take its own dictionary"};
  return std::unique_ptr<Codec>(new Zstd(level_, std::move(digested)));
}

}  // namespace

std::unique_ptr<Codec> zstd(int level) {
  return std::unique_ptr<Codec>(new Zstd(std::clamp(level, 1, 19)));
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

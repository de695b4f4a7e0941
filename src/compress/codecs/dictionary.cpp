#include "compress/codecs/dictionary.hpp"

#include <zdict.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<Dictionary> train_dictionary(std::span<const std::byte> pages, std::size_t capacity) {
  Dictionary dictionary;
  auto memory = own_memory(capacity, "pagetrap dictionary");
  if (!memory) return memory.error();
  dictionary.memory = std::move(*memory);
  const std::vector<std::size_t> sizes(pages.size() / page_size(), page_size());
  const std::size_t length =
      ZDICT_trainFromBuffer(dictionary.memory.data(), capacity, pages.data(), sizes.data(),
                            static_cast<unsigned>(sizes.size()));
  if (ZDICT_isError(length) != 0) {
    return Error{"training a dictionary",
                 EINVAL,
                 {},
                 "give it at least a hundred pages, of one kind and not all the same"};
  }
  dictionary.bytes = {dictionary.memory.data(), length};
  return dictionary;
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

#include <memory_resource>
#include <utility>

#include <pagetrap/core/units.hpp>

#include "../../../../examples/word_store.hpp"
#include "word_tables.hpp"

namespace pagetrap::tool {
namespace {

class StoreWords final : public WordTable {
 public:
  // A log of which so much work needs more than half, so that checkpoints are in the figures.
  explicit StoreWords(const std::string& directory)
      : store_(store::Store::open(directory + "/words.store", {.log_bytes = 8_MiB}).value()),
        index_(*store_.root<example::WordIndex>("words").value()) {}

  void add(std::uint32_t /*first*/, std::span<const std::string_view> documents) override {
    store_
        .transaction([&] {
          for (const std::string_view document : documents) index_.add(document);
        })
        .value();
  }
  std::uint64_t look_up(const std::pmr::string& word) override {
    const auto found = index_.documents_of.find(word);
    if (found == index_.documents_of.end()) return 0;
    std::uint64_t sum = 0;
    for (const std::uint32_t document : found->second) sum += document + 1;
    return sum;
  }

 private:
  store::Store store_;
  example::WordIndex& index_;
};

}  // namespace

std::unique_ptr<WordTable> open_store_words(const std::string& directory) {
  return std::make_unique<StoreWords>(directory);
}

}  // namespace pagetrap::tool

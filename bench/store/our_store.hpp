// Our side: a std::pmr::unordered_map of records in a store, changed by plain assignments.
#pragma once

#include <algorithm>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <unordered_map>

#include <pagetrap/store/store.hpp>

#include "rivals/record_store.hpp"

namespace pagetrap::bench {

using RecordMap = std::pmr::unordered_map<std::uint64_t, Record>;

/// `count` records, in steps that a log holds.
template <class Map>
void fill(store::Store& store, Map& map, std::uint64_t count) {
  constexpr std::uint64_t kStep = 50'000;
  const Record value{};
  // The buckets at once: a table that doubles rewrites itself.
  store.transaction([&] { map.reserve(count); }).value();
  for (std::uint64_t key = 0; key < count;) {
    const std::uint64_t end = std::min(key + kStep, count);
    store
        .transaction([&] {
          for (; key < end; ++key) map.emplace(key, value);
        })
        .value();
  }
}

class OurStore final : public RecordStore {
 public:
  OurStore(const RecordStoreOptions& options, store::Detect detect,
           store::Persistence persistence = store::Persistence::automatic)
      : store_(
            store::Store::open(path(options), our_options(options, detect, persistence)).value()),
        map_(*store_.root<RecordMap>("records").value()),
        barrier_(detect == store::Detect::barrier) {}

  static std::string path(const RecordStoreOptions& options) {
    return options.directory + "/ours.store";
  }
  static store::StoreOptions our_options(
      const RecordStoreOptions& options, store::Detect detect,
      store::Persistence persistence = store::Persistence::automatic) {
    store::StoreOptions ours;
    ours.detect = detect;
    ours.persistence = persistence;
    ours.durability = options.durable ? store::Durability::full : store::Durability::none;
    return ours;
  }

  /// Not with a barrier: that would have to be inside the map.
  void load(std::uint64_t count) override {
    fill(store_, map_, count);
    store_.checkpoint().value();
  }

 private:
  auto changing(std::span<const std::uint64_t> keys, const Record& value) {
    return [this, keys, &value](store::Transaction& transaction) {
      for (const std::uint64_t key : keys) {
        Record& record = map_.find(key)->second;
        if (barrier_) transaction.write(&record, sizeof record);
        record = value;
      }
    };
  }

 public:
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    store_.transaction(changing(keys, value)).value();
  }
  store::Position update_async(std::span<const std::uint64_t> keys, const Record& value) {
    return store_.commit_async(changing(keys, value)).value();
  }
  Record get(std::uint64_t key) override { return map_.find(key)->second; }
  store::Store& store() noexcept { return store_; }
  RecordMap& map() noexcept { return map_; }

 private:
  store::Store store_;
  RecordMap& map_;
  bool barrier_;
};

inline std::unique_ptr<RecordStore> open_ours(const RecordStoreOptions& options) {
  return std::make_unique<OurStore>(options, store::Detect::best);
}

/// Its changes announced: loaded by traps, and then opened with a barrier.
template <store::Persistence How = store::Persistence::automatic>
class Annotated final : public RecordStore {
 public:
  explicit Annotated(const RecordStoreOptions& options) : options_(options) {}
  void load(std::uint64_t count) override {
    OurStore(options_, store::Detect::traps, How).load(count);
    store_.emplace(options_, store::Detect::barrier, How);
    // All of it in memory, as it is on the other side. Looked at, or no compiler would read it.
    unsigned sum = 0;
    for (std::uint64_t key = 0; key < count; ++key)
      sum += static_cast<unsigned>(store_->get(key)[0]);
    require(sum == 0, "records are not as they were loaded");
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    store_->update(keys, value);
  }
  Record get(std::uint64_t key) override { return store_->get(key); }

 private:
  RecordStoreOptions options_;
  std::optional<OurStore> store_;
};

template <store::Persistence How = store::Persistence::automatic>
std::unique_ptr<RecordStore> open_annotated(const RecordStoreOptions& options) {
  return std::make_unique<Annotated<How>>(options);
}

}  // namespace pagetrap::bench

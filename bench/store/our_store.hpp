// Our side: a std::pmr::unordered_map of records in a store, changed by plain assignments.
#pragma once

#include <algorithm>
#include <memory_resource>
#include <unordered_map>

#include <pagetrap/store/store.hpp>

#include "rivals/record_store.hpp"

namespace pagetrap::bench {

using RecordMap = std::pmr::unordered_map<std::uint64_t, Record>;

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
    const Record value{};
    // The buckets at once: a table that doubles rewrites itself.
    store_.transaction([&] { map_.reserve(count); }).value();
    for (std::uint64_t key = 0; key < count;) {
      const std::uint64_t end = std::min<std::uint64_t>(key + 50'000, count);
      store_
          .transaction([&] {
            for (; key < end; ++key) map_.emplace(key, value);
          })
          .value();
    }
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

}  // namespace pagetrap::bench

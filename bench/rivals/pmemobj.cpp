// libpmemobj on an ordinary file: an array of records in the root object, each range announced
// before it is changed (TX_ADD). What is lost when one announcement is forgotten is not measured.
#include <sys/types.h>

#include <cstring>

#include "rivals/record_store.hpp"

namespace pagetrap::bench::rivals {
namespace {

struct Oid {
  std::uint64_t pool;
  std::uint64_t offset;
};

class Pmemobj final : public RecordStore {
 public:
  explicit Pmemobj(const RecordStoreOptions& options)
      : library_("libpmemobj.so.1", "libpmemobj-dev") {
    void* (*create)(const char*, const char*, std::size_t, mode_t) = nullptr;
    library_.find("pmemobj_create", create);
    library_.find("pmemobj_close", close_);
    library_.find("pmemobj_root", root_);
    library_.find("pmemobj_direct", direct_);
    library_.find("pmemobj_tx_begin", begin_);
    library_.find("pmemobj_tx_add_range_direct", add_);
    library_.find("pmemobj_tx_commit", commit_);
    library_.find("pmemobj_tx_end", end_);
    pool_ = create((options.directory + "/pool").c_str(), "records",
                   2 * options.bytes + (std::size_t{64} << 20), 0600);
    require(pool_ != nullptr, "pmemobj_create");
  }
  ~Pmemobj() override { close_(pool_); }

  void load(std::uint64_t count) override {
    const Oid root = root_(pool_, count * sizeof(Record));
    records_ = static_cast<Record*>(direct_(root));
    require(records_ != nullptr, "pmemobj_root");
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    require(begin_(pool_, nullptr, 0) == 0, "pmemobj_tx_begin");
    for (const std::uint64_t key : keys) {
      require(add_(records_ + key, sizeof(Record)) == 0, "pmemobj_tx_add_range");
      records_[key] = value;
    }
    commit_();
    require(end_() == 0, "pmemobj_tx_end");
  }
  Record get(std::uint64_t key) override { return records_[key]; }

 private:
  Library library_;
  void (*close_)(void*) = nullptr;
  Oid (*root_)(void*, std::size_t) = nullptr;
  void* (*direct_)(Oid) = nullptr;
  int (*begin_)(void*, void*, ...) = nullptr;
  int (*add_)(const void*, std::size_t) = nullptr;
  void (*commit_)() = nullptr;
  int (*end_)() = nullptr;
  void* pool_ = nullptr;
  Record* records_ = nullptr;
};

}  // namespace

std::unique_ptr<RecordStore> open_pmemobj(const RecordStoreOptions& options) {
  return std::make_unique<Pmemobj>(options);
}

}  // namespace pagetrap::bench::rivals

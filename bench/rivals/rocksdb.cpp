// RocksDB through its C functions: write batches with sync=true, a block cache that holds all.
#include <cstring>

#include "rivals/record_store.hpp"

namespace pagetrap::bench::rivals {
namespace {

class RocksDb final : public RecordStore {
 public:
  explicit RocksDb(const RecordStoreOptions& options)
      : library_("librocksdb.so.7.8", "librocksdb-dev") {
    void* (*make)() = nullptr;
    void (*create_if_missing)(void*, unsigned char) = nullptr;
    void* (*make_cache)(std::size_t) = nullptr;
    void (*set_cache)(void*, void*) = nullptr;
    void (*set_table)(void*, void*) = nullptr;
    void (*set_sync)(void*, unsigned char) = nullptr;
    void* (*open)(void*, const char*, char**) = nullptr;
    library_.find("rocksdb_options_create", make);
    void* const database_options = make();
    library_.find("rocksdb_options_set_create_if_missing", create_if_missing);
    create_if_missing(database_options, 1);
    library_.find("rocksdb_block_based_options_create", make);
    void* const table_options = make();
    library_.find("rocksdb_cache_create_lru", make_cache);
    library_.find("rocksdb_block_based_options_set_block_cache", set_cache);
    set_cache(table_options, make_cache(2 * options.bytes));
    library_.find("rocksdb_options_set_block_based_table_factory", set_table);
    set_table(database_options, table_options);
    library_.find("rocksdb_writeoptions_create", make);
    write_options_ = make();
    library_.find("rocksdb_writeoptions_set_sync", set_sync);
    set_sync(write_options_, options.durable ? 1 : 0);
    load_options_ = make();
    library_.find("rocksdb_readoptions_create", make);
    read_options_ = make();
    library_.find("rocksdb_writebatch_create", make_batch_);
    library_.find("rocksdb_writebatch_destroy", end_batch_);
    library_.find("rocksdb_writebatch_put", put_);
    library_.find("rocksdb_write", write_);
    library_.find("rocksdb_get", get_);
    library_.find("rocksdb_free", free_);
    library_.find("rocksdb_close", close_);
    library_.find("rocksdb_open", open);
    char* error = nullptr;
    database_ = open(database_options, (options.directory + "/rocks").c_str(), &error);
    check(error);
  }
  ~RocksDb() override { close_(database_); }

  void load(std::uint64_t count) override {
    const Record value{};
    for (std::uint64_t key = 0; key < count;) {
      void* const batch = make_batch_();
      for (int i = 0; i < 10'000 && key < count; ++i, ++key) put(batch, key, value);
      write(batch, load_options_);
    }
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    void* const batch = make_batch_();
    for (const std::uint64_t key : keys) put(batch, key, value);
    write(batch, write_options_);
  }
  Record get(std::uint64_t key) override {
    std::size_t length = 0;
    char* error = nullptr;
    const std::uint64_t name = __builtin_bswap64(key);
    char* const found = get_(database_, read_options_, reinterpret_cast<const char*>(&name),
                             sizeof name, &length, &error);
    check(error);
    Record record{};
    require(found != nullptr && length == record.size(), "rocksdb get");
    std::memcpy(record.data(), found, length);
    free_(found);
    return record;
  }

 private:
  static void check(const char* error) {
    require(error == nullptr, std::string("rocksdb: ") + (error != nullptr ? error : ""));
  }
  // In the order of the numbers.
  void put(void* batch, std::uint64_t key, const Record& value) {
    const std::uint64_t name = __builtin_bswap64(key);
    put_(batch, reinterpret_cast<const char*>(&name), sizeof name,
         reinterpret_cast<const char*>(value.data()), value.size());
  }
  void write(void* batch, void* options) {
    char* error = nullptr;
    write_(database_, options, batch, &error);
    end_batch_(batch);
    check(error);
  }

  Library library_;
  void* (*make_batch_)() = nullptr;
  void (*end_batch_)(void*) = nullptr;
  void (*put_)(void*, const char*, std::size_t, const char*, std::size_t) = nullptr;
  void (*write_)(void*, void*, void*, char**) = nullptr;
  char* (*get_)(void*, void*, const char*, std::size_t, std::size_t*, char**) = nullptr;
  void (*free_)(void*) = nullptr;
  void (*close_)(void*) = nullptr;
  void* write_options_ = nullptr;
  void* load_options_ = nullptr;
  void* read_options_ = nullptr;
  void* database_ = nullptr;
};

}  // namespace

std::unique_ptr<RecordStore> open_rocksdb(const RecordStoreOptions& options) {
  return std::make_unique<RocksDb>(options);
}

}  // namespace pagetrap::bench::rivals

// LMDB, as it is by default; without durability WRITEMAP | NOSYNC, its fastest.
#include <sys/types.h>

#include <cstring>

#include "rivals/record_store.hpp"

namespace pagetrap::bench::rivals {
namespace {

// SOURCE lmdb.h of 0.9.
constexpr unsigned kNoSync = 0x10000;
constexpr unsigned kWriteMap = 0x80000;
constexpr unsigned kReadOnly = 0x20000;
constexpr unsigned kIntegerKey = 0x08;
constexpr unsigned kCreate = 0x40000;
constexpr unsigned kAppend = 0x20000;
struct Value {
  std::size_t size;
  void* data;
};

class Lmdb final : public RecordStore {
 public:
  explicit Lmdb(const RecordStoreOptions& options) : library_("liblmdb.so.0", "liblmdb-dev") {
    int (*create)(void**) = nullptr;
    int (*set_mapsize)(void*, std::size_t) = nullptr;
    int (*open)(void*, const char*, unsigned, mode_t) = nullptr;
    int (*dbi_open)(void*, const char*, unsigned, unsigned*) = nullptr;
    library_.find("mdb_env_create", create);
    library_.find("mdb_env_set_mapsize", set_mapsize);
    library_.find("mdb_env_open", open);
    library_.find("mdb_env_close", close_);
    library_.find("mdb_txn_begin", begin_);
    library_.find("mdb_txn_commit", commit_);
    library_.find("mdb_txn_abort", abort_);
    library_.find("mdb_dbi_open", dbi_open);
    library_.find("mdb_put", put_);
    library_.find("mdb_get", get_);
    check(create(&environment_), "create");
    check(set_mapsize(environment_, 3 * options.bytes + (std::size_t{64} << 20)), "mapsize");
    const unsigned flags = options.durable ? 0 : kNoSync | kWriteMap;
    check(open(environment_, options.directory.c_str(), flags, 0600), "open");
    void* const transaction = begin(0);
    check(dbi_open(transaction, nullptr, kIntegerKey | kCreate, &table_), "dbi_open");
    check(commit_(transaction), "commit");
  }
  ~Lmdb() override { close_(environment_); }

  void load(std::uint64_t count) override {
    const Record value{};
    for (std::uint64_t key = 0; key < count;) {
      void* const transaction = begin(0);
      for (int i = 0; i < 100'000 && key < count; ++i, ++key) put(transaction, key, value, kAppend);
      check(commit_(transaction), "commit");
    }
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    void* const transaction = begin(0);
    for (const std::uint64_t key : keys) put(transaction, key, value, 0);
    check(commit_(transaction), "commit");
  }
  Record get(std::uint64_t key) override {
    void* const transaction = begin(kReadOnly);
    Value name{sizeof key, &key};
    Value found{};
    check(get_(transaction, table_, &name, &found), "get");
    Record record;
    std::memcpy(record.data(), found.data, record.size());
    abort_(transaction);
    return record;
  }

 private:
  static void check(int error, const char* what) {
    require(error == 0, std::string("lmdb ") + what + ": " + std::to_string(error));
  }
  void* begin(unsigned flags) {
    void* transaction = nullptr;
    check(begin_(environment_, nullptr, flags, &transaction), "begin");
    return transaction;
  }
  void put(void* transaction, std::uint64_t key, const Record& value, unsigned flags) {
    Value name{sizeof key, &key};
    Value data{value.size(), const_cast<std::byte*>(value.data())};
    check(put_(transaction, table_, &name, &data, flags), "put");
  }

  Library library_;
  void (*close_)(void*) = nullptr;
  int (*begin_)(void*, void*, unsigned, void**) = nullptr;
  int (*commit_)(void*) = nullptr;
  void (*abort_)(void*) = nullptr;
  int (*put_)(void*, unsigned, Value*, Value*, unsigned) = nullptr;
  int (*get_)(void*, unsigned, Value*, Value*) = nullptr;
  void* environment_ = nullptr;
  unsigned table_ = 0;
};

}  // namespace

std::unique_ptr<RecordStore> open_lmdb(const RecordStoreOptions& options) {
  return std::make_unique<Lmdb>(options);
}

}  // namespace pagetrap::bench::rivals

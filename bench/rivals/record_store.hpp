// Transactional stores of records: a key of 8 bytes, a value of 100. What the store is measured
// against, each opened by name when it is wanted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace pagetrap::bench {

using Record = std::array<std::byte, 100>;

/// Throws std::runtime_error when something goes wrong.
class RecordStore {
 public:
  virtual ~RecordStore() = default;
  /// Records 0 to count - 1, once, when it is empty.
  virtual void load(std::uint64_t count) = 0;
  /// All of `keys` become `value`, durably unless it was opened otherwise.
  virtual void update(std::span<const std::uint64_t> keys, const Record& value) = 0;
  virtual Record get(std::uint64_t key) = 0;

 protected:
  RecordStore() = default;
};

struct RecordStoreOptions {
  std::string directory;  // exists, and is empty the first time
  std::size_t bytes = 0;  // of all records, about
  bool durable = true;
};
using OpenRecordStore = std::function<std::unique_ptr<RecordStore>(const RecordStoreOptions&)>;

/// Each throws NotInstalled where its library is missing.
struct NotInstalled {
  const char* package;
};
namespace rivals {
std::unique_ptr<RecordStore> open_lmdb(const RecordStoreOptions& options);
std::unique_ptr<RecordStore> open_sqlite(const RecordStoreOptions& options);
std::unique_ptr<RecordStore> open_rocksdb(const RecordStoreOptions& options);
std::unique_ptr<RecordStore> open_pmemobj(const RecordStoreOptions& options);
}  // namespace rivals

/// A shared library whose functions are looked up by name.
class Library {
 public:
  Library(const char* file, const char* package);
  /// The function `name`; throws if there is none.
  template <class Function>
  void find(const char* name, Function& function) const {
    function = reinterpret_cast<Function>(symbol(name));
  }

 private:
  [[nodiscard]] void* symbol(const char* name) const;
  void* handle_;
};

/// Throws, with `what`, unless `holds`.
void require(bool holds, const std::string& what);

}  // namespace pagetrap::bench

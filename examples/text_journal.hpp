// What text_index writes outside its arena, so that a process that finds an image can tell what has
// to be in it: a journal of updates for each thread, and a ledger of cuts. Both are shared mappings
// of files: a killed process leaves them as they are.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

#include "text_index.hpp"

namespace example {

/// A T in a file of its own, sparse, made of zero bytes at first.
template <class T>
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) throw std::system_error(errno, std::generic_category(), path);
    void* at = MAP_FAILED;
    if (::ftruncate(file, sizeof(T)) == 0)
      at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    const int error = errno;
    ::close(file);
    if (at == MAP_FAILED) throw std::system_error(error, std::generic_category(), path);
    content_ = static_cast<T*>(at);
  }
  ~MappedFile() { ::munmap(content_, sizeof(T)); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  T* operator->() const { return content_; }
  T& operator*() const { return *content_; }

 private:
  T* content_ = nullptr;
};

/// Update number n of a thread is updates[n - 1]. Written before the update is made.
struct Journal {
  static constexpr std::size_t kMost = std::size_t{1} << 22;
  std::array<Update, kMost> updates;
};

/// One cut, as the program saw it while its locks were taken.
struct CutRecord {
  std::array<std::uint64_t, kIndexers> applied;
  // When it was committed:
  std::uint64_t generation;
  bool incremental;
  double gate_us;  // locks taken to locks given back
  double frozen_us;
  double save_us;
  std::uint64_t image_bytes;
  std::uint64_t pages_written;
  std::uint64_t pages_skipped;
  std::uint64_t faults;
  std::uint64_t extra_bytes;
  std::uint64_t heap_bytes;
};

struct Ledger {
  static constexpr std::size_t kMost = 4096;
  std::array<CutRecord, kMost> records;
  std::atomic<std::uint64_t> cuts;     // records that have been begun
  std::atomic<std::uint64_t> commits;  // of these, in order, images that are in the directory
  std::atomic<std::uint64_t> failures;
  std::array<char, 256> problem;  // of the first failure
};

/// Both, in `directory`.
struct Records {
  explicit Records(const std::string& directory)
      : ledger(directory + "/ledger"),
        journals{MappedFile<Journal>(directory + "/journal.0"),
                 MappedFile<Journal>(directory + "/journal.1")} {
    static_assert(kIndexers == 2);
  }
  MappedFile<Ledger> ledger;
  std::array<MappedFile<Journal>, kIndexers> journals;
};

}  // namespace example

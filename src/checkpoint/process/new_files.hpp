// The descriptors of a process, made again in the one that becomes it.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Why a process could not become another: what() is a line for people. Thrown in the process that
/// would, and nowhere else.
class Trouble : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  Trouble(const std::string& object, int error);
};

/// Descriptors above all of the record's, to be closed when memory is mapped.
struct HighFiles {
  int first = 0;                 // they have this number or a larger one
  std::vector<int> of_mappings;  // by mapping; -1: it needs none
  int executable = -1;
  std::vector<int> kept;  // of those that were asked for, in their order; there first
  // Of memfds, F_ADD_SEALS: to be put on when they are mapped.
  std::vector<std::pair<int, std::uint64_t>> seals;
};

/// Makes all of record.files, and closes everything else but `kept`, which get other numbers.
/// `contents`: of record.objects. Throws Trouble, and `high` is as far as it came.
void make_files(const Record& record, const std::vector<std::vector<std::byte>>& contents,
                const std::vector<int>& kept, HighFiles& high);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

#include "compress/workspaces.hpp"

#include <cerrno>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<Done> Workspaces::open(unsigned count, std::size_t scratch_bytes) {
  if (count == 0 || count > kMost)
    return Error{"PageStore::create", EINVAL, {}, "workspaces are 1 to 64"};
  const std::size_t scratch = bytes(pages_for(scratch_bytes));
  const std::size_t each = 3 * page_size() + scratch;
  auto memory = own_memory(count * each, "pagetrap workspaces");
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  std::byte* next = memory_.data();
  for (unsigned i = 0; i < count; ++i, next += each) {
    all_[i].blob = {next, 2 * page_size()};
    all_[i].page = {next + 2 * page_size(), page_size()};
    all_[i].scratch = {next + 3 * page_size(), scratch};
  }
  count_ = count;
  scratch_bytes_ = scratch;
  free_.store(count == kMost ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1);
  return Done{};
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

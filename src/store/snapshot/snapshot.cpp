#include <pagetrap/store/snapshot.hpp>

#include "store/snapshot/snapshot_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

Result<Snapshot> Snapshot::open(const std::string& path, const SnapshotOptions& options) {
  auto state = SnapshotState::open(path, options);
  if (!state) return state.error();
  return Snapshot(std::move(*state));
}

Snapshot::Snapshot(std::unique_ptr<SnapshotState> state) noexcept : state_(std::move(state)) {}
Snapshot::~Snapshot() = default;
Snapshot::Snapshot(Snapshot&& other) noexcept = default;
Snapshot& Snapshot::operator=(Snapshot&& other) noexcept = default;

Result<void*> Snapshot::find_root(std::string_view name, const TypeMark& mark) const {
  return state_->find_root(name, mark);
}
std::vector<Root> Snapshot::roots() const { return state_->roots(); }
Result<bool> Snapshot::refresh() { return state_->refresh(); }
std::uint64_t Snapshot::commits() const noexcept { return state_->commits(); }
PageRange Snapshot::range() const noexcept { return state_->range(); }
Result<Done> Snapshot::load(const void* address, std::size_t length) const {
  return as_result(state_->load(address, length));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

#include <pagetrap/store/store.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/disk/file_disk.hpp"
#include "store/disk/mapped_disk.hpp"
#include "store/format/checksum.hpp"
#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

const char* name(Detect detect) noexcept {
  switch (detect) {
    case Detect::best:
      return "best";
    case Detect::traps:
      return "traps";
    case Detect::ring:
      return "ring";
    case Detect::scan:
      return "scan";
    case Detect::barrier:
      break;
  }
  return "barrier";
}

std::uint64_t fingerprint(const TypeMark& mark) noexcept {
  const std::uint64_t facts[] = {mark.size, mark.alignment, mark.version, mark.library};
  const std::uint64_t seed = checksum(std::as_bytes(std::span(facts)), 0);
  return checksum({reinterpret_cast<const std::byte*>(mark.name), std::strlen(mark.name)}, seed);
}

namespace {

// Complete before it has its name: a crash leaves no half a store, but maybe a file beside it.
Outcome make_file(const std::string& path, const StoreOptions& options) {
  const std::string temporary = FileDisk::name_beside(path);
  auto disk = FileDisk::open(temporary, FileUse::create);
  if (!disk) return disk.error();
  Outcome outcome = StoreState::format(**disk, options);
  if (!failed(outcome)) outcome = publish(temporary, path);
  if (failed(outcome)) ::unlink(temporary.c_str());
  // Somebody else made one meanwhile: that one.
  return outcome.number == EEXIST ? kDone : outcome;
}

}  // namespace

Result<Store> Store::open(const std::string& path, const StoreOptions& options) {
  if (options.create && ::access(path.c_str(), F_OK) != 0)
    if (const Outcome outcome = make_file(path, options); failed(outcome)) return outcome;
  auto file = FileDisk::open(path, FileUse::existing);
  if (!file) return file.error();
  auto disk = with_persistence(std::move(*file), options.persistence);
  if (!disk) return disk.error();
  auto state = StoreState::open(std::move(*disk), options);
  if (!state) return state.error();
  return Store(std::move(*state));
}

Store::Store(std::unique_ptr<StoreState> state) noexcept : state_(std::move(state)) {}
Store::Store(Store&& other) noexcept = default;
Store& Store::operator=(Store&& other) noexcept {
  if (this != &other) {
    if (state_ != nullptr) static_cast<void>(state_->close());
    state_ = std::move(other.state_);
  }
  return *this;
}
// Commits are in the log: an error here costs nothing but time when it is opened again.
Store::~Store() {
  if (state_ != nullptr) static_cast<void>(state_->close());
}

namespace {

const Outcome kMovedFrom{"Store", EBADF, {}, "it was moved from"};

}  // namespace

Result<Done> Store::close() { return state_ == nullptr ? Done{} : as_result(state_->close()); }
Result<Done> Store::begin() { return as_result(state_ == nullptr ? kMovedFrom : state_->begin()); }
Result<Position> Store::commit() {
  const auto end = state_->commit();
  if (!end) return end.error();
  return Position{*end};
}
void Store::rollback() noexcept { state_->rollback(); }
Result<Done> Store::wait_as_opened(Position position) {
  return as_result(state_->wait_as_opened(position.end));
}
Result<Done> Store::wait(Position position) {
  return as_result(state_ == nullptr ? kMovedFrom : state_->wait(position.end));
}
Result<Done> Store::sync() { return as_result(state_ == nullptr ? kMovedFrom : state_->sync()); }
Result<Done> Store::checkpoint() {
  return as_result(state_ == nullptr ? kMovedFrom : state_->checkpoint());
}

std::shared_lock<std::shared_mutex> Store::read_lock() const {
  if (state_ == nullptr) return {};
  return std::shared_lock(state_->access());
}

Result<void*> Store::find_root(std::string_view name, const TypeMark& mark) const {
  if (state_ == nullptr) return kMovedFrom;
  if (const Outcome outcome = state_->check_process(); failed(outcome)) return outcome;
  std::shared_lock<std::shared_mutex> guard;
  if (!in_transaction()) guard = read_lock();
  return state_->heap().find_object(name, mark);
}

void Store::set_root(std::string_view name, const TypeMark& mark, void* object, bool typed) {
  RootEntry* const root = state_->heap().add_root(name, mark.name);
  if (root == nullptr) throw std::bad_alloc();
  if (typed) root->type_bytes |= kTypedRoot;
  root->object = object;
  root->object_bytes = mark.size;
  root->fingerprint = fingerprint(mark);
}

bool Store::remove_root(std::string_view name) {
  Heap& heap = state_->heap();
  const bool typed = (heap.find_root(name)->type_bytes & kTypedRoot) != 0;
  heap.remove_root(name);
  return typed;
}

std::vector<Root> Store::roots() const {
  if (state_ == nullptr || failed(state_->check_process())) return {};
  std::shared_lock<std::shared_mutex> guard;
  if (!in_transaction()) guard = read_lock();
  return state_->heap().list_roots();
}

std::pmr::memory_resource* Store::resource() const noexcept {
  return state_ == nullptr ? std::pmr::null_memory_resource() : state_->resource();
}
TypedMemory* Store::typed_memory() const noexcept {
  return state_ == nullptr ? nullptr : state_->typed_memory();
}
void Store::note_typed(const void* object) { state_->typed_objects().push_back(object); }
bool Store::is_typed(const void* object) const noexcept {
  const auto& all = state_->typed_objects();
  return std::find(all.begin(), all.end(), object) != all.end();
}
bool Store::relocated() const noexcept { return state_ != nullptr && state_->relocated(); }
bool Store::in_transaction() const noexcept {
  return state_ != nullptr && state_->in_transaction();
}
PageRange Store::range() const noexcept {
  return state_ == nullptr ? PageRange{} : state_->range();
}
StoreStatistics Store::statistics() const {
  return state_ == nullptr ? StoreStatistics{} : state_->statistics();
}

Result<Done> Store::prepare(void* address, std::size_t length) {
  return as_result(state_ == nullptr ? kMovedFrom : state_->prepare(address, length));
}

void* TypedMemory::allocate(std::size_t size, std::size_t alignment, const TypeMap& map) {
  return state_->allocate(size, alignment, &map);
}

void TypedMemory::deallocate(void* block, std::size_t size, std::size_t alignment) noexcept {
  state_->deallocate(block, size, alignment, true);
}

void Transaction::write(const void* address, std::size_t length) {
  if (const Outcome outcome = state_.declare(address, length); failed(outcome))
    throw SystemError(outcome);
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

#include <pagetrap/store/inspect.hpp>

#include <cerrno>

#include "store/inspect/file_view.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

StoreFile::StoreFile(std::unique_ptr<FileView> view, StoreInfo info) noexcept
    : view_(std::move(view)), info_(std::move(info)) {}
StoreFile::~StoreFile() = default;
StoreFile::StoreFile(StoreFile&& other) noexcept = default;
StoreFile& StoreFile::operator=(StoreFile&& other) noexcept = default;

Result<StoreFile> StoreFile::open(const std::string& path, DamagedTail damaged_tail) {
  StoreInfo info;
  auto view = FileView::open(path, damaged_tail, info);
  if (!view && view.error().number == EBUSY) view = FileView::open_in_use(path, info);
  if (!view) return view.error();
  return StoreFile(std::move(*view), std::move(info));
}

Result<Done> StoreFile::verify() {
  if (const Outcome outcome = view_->verify_pages(); failed(outcome)) return outcome;
  return as_result(view_->verify_heap());
}

Result<Done> StoreFile::read(std::uint64_t address, std::span<std::byte> to) {
  return as_result(view_->read(address, to));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

// What a source does if it does not say otherwise.
#include <pagetrap/pager/source.hpp>

#include <cerrno>

namespace pagetrap {
inline namespace v0 {
namespace pager {

Source::~Source() = default;

Transfer Source::write_back(std::span<const PageRef>) noexcept PAGETRAP_SIGNAL_SAFE {
  return {.error = Error{"Source::write_back", EROFS, {}, "this source takes no pages back"}};
}
void Source::forget(std::uint64_t, std::size_t) noexcept PAGETRAP_SIGNAL_SAFE {}
void Source::prefetch(std::uint64_t, std::size_t) noexcept {}
void Source::arrived(std::uint64_t, std::size_t, std::size_t) noexcept PAGETRAP_SIGNAL_SAFE {}

void Source::prepare(std::span<const PageRef>) noexcept {}
std::size_t Source::memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE { return 0; }
void Source::in_child() noexcept {}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap

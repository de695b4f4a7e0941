// Texts of errors that are not literals. An Error has only a pointer, and is copied everywhere.
#pragma once

#include <string>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// `text`, for as long as the process lives. Not for errors by the thousand: after a number of
/// different ones (or without memory) a text that says nothing in particular.
const char* kept_text(const std::string& text) noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

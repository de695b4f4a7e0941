// The heap's descriptors stay open: programs close what they do not know. To them these numbers are
// not open.
#include <unistd.h>

#include <cerrno>

#include "common/exported.hpp"
#include "common/own_code.hpp"
#include "common/real.hpp"
#include "guard/heap.hpp"

using namespace pagetrap::preload;

namespace {

struct Kept {
  int files[2] = {-1, -1};
  Kept() noexcept {
    if (const pagetrap::guard::Engine* const engine = the_heap.load())
      pagetrap::guard::engine::descriptors(*engine, files);
  }
  [[nodiscard]] bool has(int file) const noexcept {
    return file >= 0 && (file == files[0] || file == files[1]);
  }
  /// The lowest one in [first, last], or -1.
  [[nodiscard]] int first_in(unsigned first, unsigned last) const noexcept {
    int lowest = -1;
    for (const int file : files) {
      const auto number = static_cast<unsigned>(file);
      if (file >= 0 && number >= first && number <= last && (lowest < 0 || file < lowest))
        lowest = file;
    }
    return lowest;
  }
};

int refuse(int error) noexcept {
  errno = error;
  return -1;
}

constinit Real<int(int)> real_close("close");
constinit Real<int(unsigned, unsigned, int)> real_close_range("close_range");
constinit Real<int(int, int)> real_dup2("dup2");
constinit Real<int(int, int, int)> real_dup3("dup3");

int close_range_but_ours(unsigned first, unsigned last, int flags) noexcept {
  const Kept kept;
  while (first <= last) {
    const int ours = kept.first_in(first, last);
    if (ours < 0) return real_close_range(first, last, flags);
    const auto number = static_cast<unsigned>(ours);
    if (number > first)
      if (const int result = real_close_range(first, number - 1, flags); result != 0) return result;
    first = number + 1;
  }
  return 0;
}

}  // namespace

PAGETRAP_EXPORT int close(int file) {
  if (!is_own_code(__builtin_return_address(0)) && Kept().has(file)) return refuse(EBADF);
  return real_close(file);
}
PAGETRAP_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  if (first > last) return refuse(EINVAL);
  return close_range_but_ours(first, last, flags);
}
PAGETRAP_EXPORT void closefrom(int first) noexcept {
  close_range_but_ours(first < 0 ? 0 : static_cast<unsigned>(first), ~0U, 0);
}
PAGETRAP_EXPORT int dup2(int file, int number) noexcept {
  const Kept kept;
  if (kept.has(file)) return refuse(EBADF);
  return kept.has(number) ? refuse(EMFILE) : real_dup2(file, number);
}
PAGETRAP_EXPORT int dup3(int file, int number, int flags) noexcept {
  const Kept kept;
  if (kept.has(file)) return refuse(EBADF);
  return kept.has(number) ? refuse(EMFILE) : real_dup3(file, number, flags);
}

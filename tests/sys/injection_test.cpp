#include "sys/injection.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>

#include "support.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::sys {
namespace {

TEST(Injection, FailsExactlyTheCallsAskedFor) {
  const auto page = Mapping::create(anonymous_pages(1, PROT_NONE));
  ASSERT_TRUE(page);
  inject(Call::mprotect, EAGAIN, 2, 3);
  std::array<int, 8> errors{};
  for (int& error : errors) {
    error = change_protection(page->range(), PROT_READ);
    EXPECT_EQ(advise(page->range(), MADV_DONTNEED), 0);  // another call, which is not counted
  }
  EXPECT_EQ(errors, (std::array<int, 8>{0, 0, EAGAIN, EAGAIN, EAGAIN, 0, 0, 0}));
  inject(Call::mprotect, ENOMEM);
  EXPECT_EQ(advise(page->range(), MADV_DONTNEED), 0);
  inject(Call::none, 0);
  EXPECT_EQ(change_protection(page->range(), PROT_READ), 0);
}

}  // namespace
}  // namespace pagetrap::sys

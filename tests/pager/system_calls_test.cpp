// System calls into pages that are not there: with handler threads they work, and nothing is lost.
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <netinet/in.h>

#include <chrono>
#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class SystemCalls : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 64;
  void SetUp() override {
    const Capabilities can = capabilities(BackendId::uffd_thread, Backing::anonymous);
    if (!can.kernel_accesses) GTEST_SKIP() << "this user may not serve the kernel's own faults";
    region_ =
        Region::create(*pager_, bytes(Pages{kPages}), source_, {.kernel_accesses = true}).value();
    for (std::uint64_t page = 0; page < kPages; ++page)
      words(region_)[page * words_in_page()] = page + 1;
    ASSERT_TRUE(region_.evict_all());
    ASSERT_EQ(region_.statistics().resident_pages, 0U);
  }
  [[nodiscard]] std::byte* page(std::uint64_t index) const {
    return region_.data() + bytes(Pages{index});
  }
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{16})}).value();
  StoreSource source_{kPages};
  Region region_;
};

TEST_F(SystemCalls, ReadFillsPagesThatAreNotThere) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::vector<std::byte> sent(3 * page_size(), std::byte{0x5A});
  ASSERT_EQ(::write(ends[1], sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  ASSERT_EQ(::read(ends[0], page(5) + 100, sent.size()), static_cast<ssize_t>(sent.size()));
  EXPECT_EQ(std::memcmp(page(5) + 100, sent.data(), sent.size()), 0);
  EXPECT_EQ(words(region_)[5 * words_in_page()], 6U);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(SystemCalls, ADatagramIsNotLost) {
  const int receiver = ::socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(receiver, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t length = sizeof address;
  ASSERT_EQ(::getsockname(receiver, reinterpret_cast<sockaddr*>(&address), &length), 0);
  const int sender = ::socket(AF_INET, SOCK_DGRAM, 0);
  for (std::uint64_t i = 0; i < 32; ++i) {
    std::vector<std::byte> sent(1400, static_cast<std::byte>(i + 1));
    ASSERT_EQ(::sendto(sender, sent.data(), sent.size(), 0,
                       reinterpret_cast<const sockaddr*>(&address), sizeof address),
              1400);
    std::byte* const to = page(i) + page_size() - 700;  // across two pages
    ASSERT_EQ(::recv(receiver, to, 1400, 0), 1400) << std::strerror(errno);
    EXPECT_EQ(std::memcmp(to, sent.data(), sent.size()), 0);
  }
  ::close(sender);
  ::close(receiver);
}

TEST_F(SystemCalls, AFutexWordMayBeAway) {  // page 9 holds the number 10
  auto* const word = reinterpret_cast<std::uint32_t*>(page(9));
  EXPECT_EQ(::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0x7777, nullptr, nullptr, 0), -1);
  EXPECT_EQ(errno, EAGAIN);  // it was read, and is another value
  ASSERT_TRUE(region_.evict_all());
  std::atomic<bool> awake{false};
  std::thread sleeper([&] {
    while (::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 10, nullptr, nullptr, 0) == -1 &&
           errno == EINTR) {
    }
    awake.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ASSERT_TRUE(region_.evict_all());  // its private key is the address, which stays
  EXPECT_EQ(::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0), 1);
  sleeper.join();
  EXPECT_TRUE(awake.load());
}

TEST_F(SystemCalls, VectorsInBothDirections) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::vector<iovec> pieces;
  for (std::uint64_t i = 0; i < 10; ++i) pieces.push_back({page(6 * i), 8});
  ASSERT_EQ(::writev(ends[1], pieces.data(), 10), 80);
  std::uint64_t got[10];
  ASSERT_EQ(::read(ends[0], got, sizeof got), 80);
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(got[i], 6 * i + 1);
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace pagetrap::pager

#include "sys/mapping.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "support.hpp"
#include "sys/fd.hpp"

namespace pagetrap::sys {
namespace {

bool is_mapped(const void* address) {
  unsigned char ignored = 0;
  return ::mincore(page_of(address).base, page_size(), &ignored) == 0;
}

TEST(Mapping, IsAlignedAndLeavesNothingAround) {
  for (std::size_t alignment = page_size(); alignment <= 1_GiB; alignment *= 8) {
    Mapping::Request request = anonymous_pages(3, PROT_READ | PROT_WRITE);
    request.alignment = alignment;
    std::byte* base = nullptr;
    {
      const auto mapping = Mapping::create(request);
      ASSERT_TRUE(mapping);
      base = mapping->data();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(base) % alignment, 0U);
      EXPECT_EQ(mapping->range().length, Pages{3});
      std::memset(base, 1, request.size_bytes);
    }
    EXPECT_FALSE(is_mapped(base));
  }
}

TEST(Mapping, AlignedFilesStartAtTheirOffset) {
  const Descriptor file(::memfd_create("mapping", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(8 * page_size())), 0);
  const std::uint64_t mark = 0x1234;
  ASSERT_EQ(::pwrite(file.get(), &mark, sizeof mark, static_cast<off_t>(2 * page_size())),
            static_cast<ssize_t>(sizeof mark));
  Mapping::Request request;
  request.size_bytes = 4 * page_size();
  request.prot = PROT_READ;
  request.flags = MAP_SHARED;
  request.descriptor = file.get();
  request.offset = 2 * page_size();
  request.alignment = 2_MiB;
  const auto mapping = Mapping::create(request);
  ASSERT_TRUE(mapping);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->data()) % 2_MiB, 0U);
  EXPECT_EQ(*reinterpret_cast<const std::uint64_t*>(mapping->data()), mark);
}

TEST(Mapping, FixedPlacesAreNeverReplaced) {
  Mapping::Request request = anonymous_pages(1, PROT_READ | PROT_WRITE);
  auto first = Mapping::create(request);
  ASSERT_TRUE(first);
  *first->data() = std::byte{7};
  request.address = first->data();
  const auto second = Mapping::create(request);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().number, EEXIST);
  EXPECT_EQ(*first->data(), std::byte{7});
  first->reset();
  const auto third = Mapping::create(request);
  ASSERT_TRUE(third);
  EXPECT_EQ(third->data(), request.address);
}

TEST(Mapping, RefusesTheImpossible) {
  Mapping::Request request = anonymous_pages(1, PROT_NONE);
  request.size_bytes = std::size_t{1} << 60;
  const auto mapping = Mapping::create(request);
  ASSERT_FALSE(mapping);
  EXPECT_EQ(mapping.error().number, ENOMEM);
}

TEST(Mapping, MovesItsOwnership) {
  Mapping first = Mapping::create(anonymous_pages(1, PROT_NONE)).value();
  Mapping second = Mapping::create(anonymous_pages(1, PROT_NONE)).value();
  std::byte* const old = second.data();
  std::byte* const kept = first.data();
  second = std::move(first);
  EXPECT_FALSE(is_mapped(old));
  EXPECT_EQ(second.data(), kept);
  const PageRange released = second.release();
  EXPECT_TRUE(second.range().empty());
  EXPECT_TRUE(is_mapped(released.base));
  ::munmap(released.base, released.size_bytes());
}

}  // namespace
}  // namespace pagetrap::sys

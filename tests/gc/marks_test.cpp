#include "gc/marks.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace pagetrap {
namespace {

std::vector<std::size_t> taken(gc::Marks& marks, gc::PageIndex page) {
  std::vector<std::size_t> all;
  marks.take_unscanned(page, [&](std::size_t at) { all.push_back(at); });
  return all;
}

TEST(Marks, EachWordOfAPageHasItsOwn) {
  gc::Marks marks;
  ASSERT_EQ(marks.create(3).number, 0);
  EXPECT_FALSE(marks.has_any(1));
  for (std::size_t at = 0; at < 4096; at += 8) {
    EXPECT_FALSE(marks.is_marked(1, at));
    EXPECT_TRUE(marks.mark(1, at));
    EXPECT_FALSE(marks.mark(1, at)) << "again";
    EXPECT_TRUE(marks.is_marked(1, at));
  }
  EXPECT_TRUE(marks.has_any(1));
  EXPECT_FALSE(marks.has_any(0));
  EXPECT_FALSE(marks.has_any(2));
}

TEST(Marks, WhatIsMarkedIsTakenOnce) {
  gc::Marks marks;
  ASSERT_EQ(marks.create(2).number, 0);
  marks.mark(0, 0);
  marks.mark(0, 504);
  marks.mark(0, 512);
  marks.mark(0, 4088);
  EXPECT_EQ(taken(marks, 0), (std::vector<std::size_t>{0, 504, 512, 4088}));
  EXPECT_TRUE(taken(marks, 0).empty());
  marks.mark(0, 16);
  marks.mark(0, 504);
  EXPECT_EQ(taken(marks, 0), std::vector<std::size_t>{16});
  marks.clear(0);
  EXPECT_FALSE(marks.has_any(0));
  EXPECT_TRUE(taken(marks, 0).empty());
  marks.mark(0, 16);
  EXPECT_EQ(taken(marks, 0), std::vector<std::size_t>{16});
}

}  // namespace
}  // namespace pagetrap

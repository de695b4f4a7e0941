#include <pagetrap/core/signal_safe_text.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace pagetrap {
namespace {

TEST(SignalSafeText, WritesNumbers) {
  SignalSafeText line;
  line.decimal(0).text(" ").decimal(-1).text(" ").decimal(1234567890);
  EXPECT_EQ(line.view(), "0 -1 1234567890");
  SignalSafeText extremes;
  extremes.decimal(std::numeric_limits<std::int64_t>::min())
      .text(" ")
      .decimal(std::numeric_limits<std::int64_t>::max())
      .text(" ")
      .unsigned_decimal(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(extremes.view(), "-9223372036854775808 9223372036854775807 18446744073709551615");
}

TEST(SignalSafeText, WritesHexAndPointers) {
  SignalSafeText line;
  line.hex(0).text(" ").hex(0xdeadbeef).text(" ").hex(~std::uint64_t{0});
  EXPECT_EQ(line.view(), "0x0 0xdeadbeef 0xffffffffffffffff");
  SignalSafeText pointer;
  pointer.pointer(reinterpret_cast<const void*>(0x7f001000)).text(" ").pointer(nullptr);
  EXPECT_EQ(pointer.view(), "0x7f001000 0x0");
}

TEST(SignalSafeText, WritesRanges) {
  SignalSafeText one;
  one.range({reinterpret_cast<std::byte*>(page_size()), Pages{1}});
  SignalSafeText expected;
  expected.text("[").hex(page_size()).text(", ").hex(2 * page_size()).text(") 1 page");
  EXPECT_EQ(one.view(), expected.view());
  if (page_size() == 4096) {
    EXPECT_EQ(one.view(), "[0x1000, 0x2000) 1 page");
  }
  SignalSafeText many;
  many.range({reinterpret_cast<std::byte*>(page_size()), Pages{3}});
  EXPECT_TRUE(many.view().ends_with(") 3 pages"));
}

TEST(SignalSafeText, Quotes) {
  SignalSafeText line;
  line.quoted("a \"b\" \\ \n\x1f z").quoted("");
  EXPECT_EQ(line.view(), "\"a \\\"b\\\" \\\\ \\u000a\\u001f z\"\"\"");
}

TEST(SignalSafeText, PadsTheLastLine) {
  SignalSafeText line;
  line.text("0123456\nab").pad_to(5).text("c").pad_to(3).text("d");
  EXPECT_EQ(line.view(), "0123456\nab   cd");
  line.pad_to(5000);
  EXPECT_EQ(line.view().size(), 512U);
}

TEST(SignalSafeText, MayBeLongerAndUsedAgain) {
  static constinit BasicSignalSafeText<1000> lines;
  lines.text(std::string(990, 'a')).text(std::string(20, 'b'));
  EXPECT_EQ(lines.view(), std::string(990, 'a') + "bbbbbbb...");
  lines.clear();
  EXPECT_EQ(lines.text("c").view(), "c");
}

TEST(SignalSafeText, StartsEmpty) {
  EXPECT_EQ(SignalSafeText().view(), "");
  SignalSafeText line;
  line.text("").text("");
  EXPECT_EQ(line.view(), "");
}

TEST(SignalSafeText, FitsExactly512) {
  SignalSafeText line;
  const std::string full(512, 'a');
  line.text(full);
  EXPECT_EQ(line.view(), full);
  line.text("");
  EXPECT_EQ(line.view(), full);
}

TEST(SignalSafeText, CutsWhatDoesNotFit) {
  const std::string cut = std::string(509, 'a') + "...";
  SignalSafeText at_once;
  at_once.text(std::string(513, 'a'));
  EXPECT_EQ(at_once.view(), cut);
  at_once.text("more").decimal(5);
  EXPECT_EQ(at_once.view(), cut);
  SignalSafeText in_pieces;
  for (int i = 0; i < 1000; ++i) in_pieces.text("a");
  EXPECT_EQ(in_pieces.view(), cut);
  SignalSafeText inside_a_piece;
  for (int i = 0; i < 100; ++i) inside_a_piece.text("0123456789");
  std::string digits;
  for (int i = 0; i < 51; ++i) digits += "0123456789";
  EXPECT_EQ(inside_a_piece.view(), digits.substr(0, 509) + "...");
  SignalSafeText in_a_number;
  in_a_number.text(std::string(508, 'a')).unsigned_decimal(123456789);
  EXPECT_EQ(in_a_number.view(), std::string(508, 'a') + "1...");
}

}  // namespace
}  // namespace pagetrap

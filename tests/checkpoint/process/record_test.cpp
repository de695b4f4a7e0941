// Records that somebody forged, or a disk damaged: decode() refuses them, and does not crash.
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "checkpoint/process/record.hpp"

namespace pagetrap::checkpoint::process {
namespace {

Record sample() {
  Record record;
  record.kernel = "6.18";
  record.command = "program with words";
  record.vdso.resize(20, std::byte{7});
  record.directory = "/somewhere";
  record.executable = {"/bin/program", 1, 2, 3, 4, 5};
  record.auxiliary.resize(64, std::byte{1});
  record.pending.assign(2, std::vector<std::byte>(128, std::byte{3}));
  record.timers.resize(2);
  for (int i = 0; i < 3; ++i) {
    Thread thread;
    thread.id = 100 + static_cast<std::uint64_t>(i);
    thread.name = "thread";
    thread.registers.resize(24);
    thread.extended.resize(32);
    thread.affinity.resize(16);
    thread.pending.assign(1, std::vector<std::byte>(128));
    record.threads.push_back(thread);
  }
  for (std::uint64_t i = 1; i < 6; ++i) {
    Mapping mapping;
    mapping.start = i * 0x10000;
    mapping.end = mapping.start + 0x4000;
    mapping.kind = i == 3 ? MappingKind::shared_memory : MappingKind::file;
    mapping.file.path = "/lib/library.so";
    mapping.own = {{mapping.start, mapping.start + 0x1000}};
    record.mappings.push_back(mapping);
  }
  for (std::uint64_t i = 0; i < 4; ++i) {
    OpenFile file;
    file.descriptor = i;
    file.kind = i == 2 ? FileKind::pipe : FileKind::epoll;
    file.watches = {{1, 2, 3}};
    file.shares = i == 3 ? 1 : 0;
    record.files.push_back(file);
  }
  Object object;
  object.size = 65536;
  object.contents_bytes = 10;
  object.packets = {4, 6};
  record.objects.push_back(object);
  return record;
}

TEST(Record, GoesThereAndBack) {
  const std::vector<std::byte> bytes = encode(sample());
  const auto again = decode(bytes);
  ASSERT_TRUE(again);
  EXPECT_EQ(encode(*again), bytes);
  EXPECT_EQ(again->threads.size(), 3U);
  EXPECT_EQ(again->objects.front().packets, (std::vector<std::uint64_t>{4, 6}));
}

TEST(Record, CutShortAnywhere) {
  const std::vector<std::byte> bytes = encode(sample());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    // A copy of its own, so that a sanitizer sees a step too far.
    const std::vector<std::byte> part(bytes.begin(),
                                      bytes.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_FALSE(decode(part)) << length;
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode(longer));
}

// What comes out makes sense, if anything does: the rest of the code relies on it.
void check(const Record& record) {
  ASSERT_FALSE(record.threads.empty());
  for (const Mapping& mapping : record.mappings) {
    ASSERT_LT(mapping.start, mapping.end);
    ASSERT_LE(mapping.kind, MappingKind::vvar);
    if (mapping.kind == MappingKind::shared_memory) {
      ASSERT_LT(mapping.object, record.objects.size());
    }
    for (const Run& run : mapping.own) ASSERT_TRUE(run.start < run.end && run.end <= mapping.end);
  }
  for (std::size_t i = 0; i < record.files.size(); ++i) {
    ASSERT_LE(record.files[i].shares, i);
    ASSERT_LE(record.files[i].inherited, 2U);
    if (record.files[i].kind == FileKind::pipe) {
      ASSERT_LT(record.files[i].object, record.objects.size());
    }
  }
  for (const Thread& thread : record.threads) {
    for (const auto& info : thread.pending) ASSERT_EQ(info.size(), 128U);
    ASSERT_LE(thread.affinity.size(), 8192U);
  }
}

TEST(Record, FlippedBits) {
  std::vector<std::byte> bytes = encode(sample());
  for (std::size_t at = 0; at < bytes.size(); ++at)
    for (const int bit : {0, 2, 7}) {
      bytes[at] ^= static_cast<std::byte>(1 << bit);
      if (const auto record = decode(bytes)) check(*record);
      bytes[at] ^= static_cast<std::byte>(1 << bit);
    }
}

TEST(Record, LargeNumbersAnywhere) {
  const std::vector<std::byte> bytes = encode(sample());
  for (std::size_t at = 0; at + 8 <= bytes.size(); ++at)
    for (const std::uint64_t number :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{1} << 20}) {
      std::vector<std::byte> forged = bytes;
      std::memcpy(forged.data() + at, &number, sizeof number);
      if (const auto record = decode(forged)) check(*record);
    }
}

TEST(Record, Rubbish) {
  std::mt19937_64 random(1991);
  for (int turn = 0; turn < 2000; ++turn) {
    std::vector<std::byte> bytes(random() % 4000);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random() % (turn % 2 == 0 ? 256 : 3));
    if (bytes.size() >= 8) std::memcpy(bytes.data(), &kRecordVersion, sizeof kRecordVersion);
    if (const auto record = decode(bytes)) check(*record);
  }
}

}  // namespace
}  // namespace pagetrap::checkpoint::process

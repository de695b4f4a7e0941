// Fuzz target: superblock, log, staging area and heap of a store's file. The input is a list of
// changes to files that are good; most of them get their checksums right afterwards, or nothing
// behind a checksum would ever be reached. Whatever comes out is an error or a store, never a
// crash.
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "store/campaign/workload.hpp"
#include "store/disks.hpp"
#include "store/format/checksum.hpp"
#include "store/format/layout.hpp"
#include "store/inspect/file_view.hpp"
#include "store/store_state.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using namespace pagetrap::store;

StoreOptions small() {
  StoreOptions options;
  options.log_bytes = std::size_t{128} << 10;
  options.reserve_bytes = std::size_t{16} << 20;
  options.address = reinterpret_cast<void*>(std::uintptr_t{0x1550'0000'0000});
  return options;
}

/// `which`: closed cleanly; with commits in the log; with a checkpoint in the staging area as well.
Bytes make(unsigned which) {
  MemoryDisk fresh;
  if (failed(StoreState::format(fresh, small(), 24))) throw std::runtime_error("format");
  auto owned = std::make_unique<MemoryDisk>(fresh.contents());
  const MemoryDisk& disk = *owned;
  auto state = StoreState::open(std::move(owned), small());
  if (!state) throw std::runtime_error(pagetrap::describe(state.error()));
  Store store = StoreState::as_store(std::move(*state));
  auto& world = *store.root<campaign::World>("world").value();
  store.root<std::array<void*, 8>>("typed").value();  // a pointer map, for all that is freed
  for (std::uint64_t step = 1; step <= 60; ++step) {
    campaign::step_in(store, world, 5, step).value();
    if (step == 30 && which == 2) store.checkpoint().value();
  }
  store.sync().value();
  if (which == 0) {
    store.close().value();
  } else {
    StoreState::of(store).abandon_file();
  }
  return disk.contents();
}

const std::vector<Bytes>& good_files() {
  static const std::vector<Bytes> files{make(0), make(1), make(2)};
  return files;
}

struct Change {
  std::uint32_t place;
  std::uint32_t value;
  std::uint16_t length;
  std::uint8_t area;
  std::uint8_t how;
};
static_assert(sizeof(Change) == 12);

template <class T>
T read_from(const Bytes& file, std::size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

class File {
 public:
  explicit File(Bytes bytes) : bytes_(std::move(bytes)), block_(read_from<Superblock>(bytes_, 0)) {}

  void change(const Change& change) {
    const std::size_t at = place_of(change);
    const std::size_t length = change.length % 9;
    if (at + 8 > bytes_.size()) return;
    std::uint64_t value = change.value;
    if (change.how % 4 == 1) value = ~std::uint64_t{0} - value;
    if (change.how % 4 == 2) value = read_from<std::uint64_t>(bytes_, at) + change.value % 5 - 2;
    if (change.how % 4 == 3) value <<= change.value % 64;
    std::memcpy(bytes_.data() + at, &value, length);
    if (change.how < 224) seal(at);
  }
  Bytes take() { return std::move(bytes_); }

 private:
  std::size_t place_of(const Change& change) const {
    switch (change.area % 6) {
      case 0:
        return change.place % 192 / 8 * 8 + change.place % 2 * kPageBytes;
      case 1: {  // a sector's head or the first words behind it
        const std::size_t sector = change.place % (block_.log_bytes / kSectorBytes);
        return block_.log_offset + sector * kSectorBytes + change.place / 7 % 16 * 8;
      }
      case 2:
        return block_.log_offset + change.place % block_.log_bytes / 8 * 8;
      case 3:
        return block_.staging_offset + change.place % 256 / 8 * 8;
      case 4:  // the heap's header and what it points to
        return block_.data_offset + kPageBytes + change.place % (8 * kPageBytes) / 8 * 8;
      default:
        return change.place % bytes_.size() / 8 * 8;
    }
  }
  void seal(std::size_t at) {
    if (at < kStagingOffset) {
      seal_block(at / kPageBytes * kPageBytes, kPageBytes, offsetof(Superblock, sum),
                 0x53'5452'4150);
    } else if (at < block_.log_offset) {
      seal_block(block_.staging_offset, kStagingHeadBytes, offsetof(StagingHead, sum), block_.seed);
    } else if (at < block_.data_offset) {
      seal_block(at / kSectorBytes * kSectorBytes, kSectorBytes, offsetof(SectorHead, sum),
                 block_.seed);
    } else {
      const std::size_t in_group = (at - block_.data_offset) % kGroupBytes;
      const std::size_t group = (at - block_.data_offset) / kGroupBytes;
      if (in_group < kPageBytes || (group + 1) * kGroupBytes > bytes_.size() - block_.data_offset)
        return;
      const std::size_t page = in_group / kPageBytes - 1;
      const std::uint64_t number = group * kGroupPages + page;
      const std::uint64_t sum = page_checksum(
          std::span(bytes_).subspan(at / kPageBytes * kPageBytes, kPageBytes), number, block_.seed);
      std::memcpy(bytes_.data() + block_.data_offset + group * kGroupBytes + page * 8, &sum, 8);
    }
  }
  void seal_block(std::size_t begin, std::size_t length, std::size_t field, std::uint64_t seed) {
    std::memset(bytes_.data() + begin + field, 0, 8);
    const std::uint64_t sum = checksum(std::span(bytes_).subspan(begin, length), seed);
    std::memcpy(bytes_.data() + begin + field, &sum, 8);
  }

  Bytes bytes_;
  Superblock block_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  File file(good_files()[data[0] % 3]);
  const bool cut = data[1] % 16 == 0;
  for (std::size_t at = 2; at + sizeof(Change) <= size && at < 20 * sizeof(Change);
       at += sizeof(Change)) {
    Change change;
    std::memcpy(&change, data + at, sizeof change);
    file.change(change);
  }
  Bytes bytes = file.take();
  if (cut) bytes.resize(bytes.size() - data[1] % 7 * 1000 % bytes.size());
  const DamagedTail tail = data[1] % 2 == 0 ? DamagedTail::refuse : DamagedTail::discard;
  pagetrap::store::StoreInfo info;
  auto view = FileView::open(std::make_unique<MemoryDisk>(std::move(bytes)), tail, info);
  if (!view || failed((*view)->verify_pages())) return 0;
  static_cast<void>((*view)->verify_heap());
  return 0;
}

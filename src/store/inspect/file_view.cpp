#include "store/inspect/file_view.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/format/superblock.hpp"
#include "store/heap/pointer_map.hpp"
#include "store/log/recovery.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

Outcome OverlayDisk::read(std::span<std::byte> to, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = below_->read(to, offset); failed(outcome)) return outcome;
  for (auto page = written_.lower_bound(offset / kPageBytes * kPageBytes);
       page != written_.end() && page->first < offset + to.size(); ++page) {
    const std::uint64_t begin = std::max(offset, page->first);
    const std::uint64_t end = std::min(offset + to.size(), page->first + kPageBytes);
    std::memcpy(to.data() + (begin - offset), page->second.data() + (begin - page->first),
                end - begin);
  }
  return kDone;
}

Outcome OverlayDisk::write(std::span<const std::byte> from, std::uint64_t offset) noexcept {
  for (std::size_t at = 0; at < from.size(); at += kPageBytes)
    written_[offset + at].assign(from.begin() + static_cast<std::ptrdiff_t>(at),
                                 from.begin() + static_cast<std::ptrdiff_t>(at + kPageBytes));
  return kDone;
}

Result<std::unique_ptr<FileView>> FileView::open(const std::string& path, DamagedTail damaged_tail,
                                                 StoreInfo& info) {
  auto file = FileDisk::open(path, FileUse::read_only);
  if (!file) return file.error();
  return open(std::move(*file), damaged_tail, info);
}

Result<std::unique_ptr<FileView>> FileView::open(std::unique_ptr<Disk> file,
                                                 DamagedTail damaged_tail, StoreInfo& info) {
  std::unique_ptr<FileView> view(new FileView);
  view->disk_ = std::make_unique<OverlayDisk>(std::move(file));
  OverlayDisk& disk = *view->disk_;
  const auto found = read_superblock(disk);
  if (!found) return found.error();
  Superblock& block = view->block_ = found->block;
  info.clean = (block.flags & kCleanFlag) != 0;
  info.intact_superblocks = found->intact;
  if (!info.clean) {
    const auto restored = replay_staging(disk, block);
    if (!restored) return restored.error();
    info.restored_pages = *restored;
  }
  const std::size_t pages = block.reserve_bytes / kPageBytes;
  auto pending = PendingRuns::create(pages, block.log_bytes);
  if (!pending) return pending.error();
  const auto log = recover_log(disk, block, damaged_tail == DamagedTail::discard, *pending);
  if (!log) return log.error();
  view->describe_file(*log, disk.size(), info);
  const std::uint64_t file_pages =
      std::min<std::uint64_t>(groups_in(block.data_offset, disk.size()) * kGroupPages, pages);
  view->stored_pages_ = file_pages;
  for (const PageNumber page : pending->pages())
    view->stored_pages_ = std::max<std::uint64_t>(view->stored_pages_, page + std::uint64_t{1});
  auto committed =
      CommittedPages::create(disk, {block.data_offset, block.seed, pages}, std::move(*pending));
  if (!committed) return committed.error();
  view->committed_ = std::move(*committed);
  view->committed_->set_file_pages(file_pages);
  if (const Outcome outcome = view->read_heap(info); failed(outcome)) return outcome;
  return view;
}

Result<std::unique_ptr<FileView>> FileView::open_in_use(const std::string& path, StoreInfo& info) {
  std::unique_ptr<FileView> view(new FileView);
  auto snapshot = SnapshotPages::open(path);
  if (!snapshot) return snapshot.error();
  view->snapshot_ = std::move(*snapshot);
  view->block_ = view->snapshot_->superblock();
  view->stored_pages_ = view->snapshot_->stored_pages();
  info.in_use = true;
  info.intact_superblocks = view->snapshot_->intact_superblocks();
  view->describe_file(view->snapshot_->log(), view->snapshot_->file_bytes(), info);
  if (const Outcome outcome = view->read_heap(info); failed(outcome)) return outcome;
  return view;
}

Outcome FileView::load(PageNumber page, std::byte* to) noexcept {
  if (snapshot_ == nullptr) return committed_->load(page, to);
  std::size_t loaded = 0;
  return snapshot_->load(page, 1, to, loaded);
}

void FileView::describe_file(const RecoveredLog& log, std::uint64_t file_bytes,
                             StoreInfo& info) const {
  info.base = block_.base;
  info.reserve_bytes = block_.reserve_bytes;
  info.file_bytes = file_bytes;
  info.log_bytes = block_.log_bytes;
  info.log_used_bytes = (log.next - block_.log_start) * kSectorBytes;
  info.log_records = log.records;
  info.commits = log.commits;
  info.openings = block_.epoch;
  info.created_ns = block_.created_ns;
}

Outcome FileView::damaged(const char* what, std::uint64_t address) const noexcept {
  const auto page = static_cast<PageNumber>((address - block_.base) / kPageBytes);
  return {"heap of a store",
          EBADMSG,
          {},
          what,
          static_cast<std::int64_t>(offset_of_page(block_.data_offset, page))};
}

bool FileView::is_inside(std::uint64_t address, std::uint64_t length) const noexcept {
  const std::uint64_t used = header_.used_pages * kPageBytes;
  return address >= block_.base && address - block_.base <= used &&
         length <= used - (address - block_.base);
}

Outcome FileView::read(std::uint64_t address, std::span<std::byte> to) noexcept {
  if (!is_inside(address, to.size()))
    return {"read of a store's data", EINVAL, {}, "outside of what the store uses"};
  alignas(kPageBytes) std::array<std::byte, kPageBytes> contents;
  for (std::size_t done = 0; done < to.size();) {
    const std::uint64_t place = address - block_.base + done;
    const auto page = static_cast<PageNumber>(place / kPageBytes);
    if (const Outcome outcome = load(page, contents.data()); failed(outcome)) return outcome;
    const std::size_t from = place % kPageBytes;
    const std::size_t part = std::min(to.size() - done, kPageBytes - from);
    std::memcpy(to.data() + done, contents.data() + from, part);
    done += part;
  }
  return kDone;
}

Outcome FileView::read_heap(StoreInfo& info) {
  header_.used_pages = kHotPages;
  std::array<std::byte, sizeof(HeapHeader)> bytes;
  if (const Outcome outcome = read(block_.base, bytes); failed(outcome)) return outcome;
  std::uint64_t magic = 0;
  std::memcpy(&magic, bytes.data(), sizeof magic);
  if (magic == 0 && info.commits == 0) {
    header_.used_pages = 0;
    return kDone;  // made, and never opened
  }
  std::memcpy(&header_, bytes.data(), sizeof header_);
  if (magic != kHeapMagic || header_.used_pages > block_.reserve_bytes / kPageBytes ||
      header_.used_pages < kHotPages || header_.bitmap_page != kHotPages) {
    header_.used_pages = kHotPages;
    return damaged("its header makes no sense", block_.base);
  }
  info.used_bytes = header_.used_pages * kPageBytes;
  info.allocated_bytes = header_.allocated_bytes;
  info.untyped_bytes = untyped_bytes(header_);
  if (const Outcome outcome = count_free(info.free_bytes); failed(outcome)) return outcome;
  info.free_bytes *= kPageBytes;
  return read_roots(info);
}

// Free runs are in lists by size; a list with more members than pages is a circle.
Outcome FileView::count_free(std::uint64_t& pages) {
  idle_.assign(header_.used_pages, false);
  for (const PageNumber bin : header_.free_runs) {
    for (std::uint64_t run = bin; run != 0;) {
      struct {
        std::uint64_t pages;
        PageNumber next;
        PageNumber previous;
      } head{};
      const std::uint64_t address = block_.base + run * kPageBytes;
      if (run >= header_.used_pages) return damaged("a free run lies outside", block_.base);
      if (const Outcome outcome =
              read(address, std::as_writable_bytes(std::span(&head, std::size_t{1})));
          failed(outcome))
        return outcome;
      if (head.pages == 0 || head.pages > header_.used_pages - run || pages > header_.used_pages)
        return damaged("a free run has an impossible length", address);
      pages += head.pages;
      for (std::uint64_t i = 1; i + 1 < head.pages; ++i) idle_[run + i] = true;
      run = head.next;
    }
  }
  return pages > header_.used_pages ? damaged("free runs overlap", block_.base) : kDone;
}

Outcome FileView::read_roots(StoreInfo& info) {
  for (const RootEntry* bucket : header_.roots) {
    for (auto address = reinterpret_cast<std::uintptr_t>(bucket); address != 0;) {
      RootEntry entry;
      if (!is_inside(address, sizeof entry) || info.roots.size() > header_.root_count)
        return damaged("a root lies outside, or in a circle", block_.base);
      std::array<std::byte, sizeof entry> bytes;
      if (const Outcome outcome = read(address, bytes); failed(outcome)) return outcome;
      std::memcpy(&entry, bytes.data(), sizeof entry);
      const std::uint64_t text = address + sizeof entry;
      const std::uint32_t type_bytes = entry.type_bytes & ~kTypedRoot;
      if (!is_inside(text, std::uint64_t{entry.name_bytes} + type_bytes))
        return damaged("a root's name lies outside", address);
      FileRoot root;
      root.name.resize(entry.name_bytes);
      root.type.resize(type_bytes);
      Outcome outcome = read(text, std::as_writable_bytes(std::span(root.name)));
      if (!failed(outcome))
        outcome = read(text + entry.name_bytes, std::as_writable_bytes(std::span(root.type)));
      if (failed(outcome)) return outcome;
      root.address = reinterpret_cast<std::uintptr_t>(entry.object);
      root.size_bytes = entry.object_bytes;
      if (!is_inside(root.address, root.size_bytes))
        return damaged("a root's object lies outside", address);
      info.roots.push_back(std::move(root));
      address = reinterpret_cast<std::uintptr_t>(entry.next);
    }
  }
  std::sort(info.roots.begin(), info.roots.end(),
            [](const FileRoot& a, const FileRoot& b) { return a.name < b.name; });
  if (info.roots.size() != header_.root_count)
    return damaged("there are not as many roots as it says", block_.base);
  return kDone;
}

Outcome FileView::verify_pages() {
  alignas(kPageBytes) std::array<std::byte, kPageBytes> contents;
  for (std::uint64_t page = 0; page < stored_pages_; ++page)
    if (const Outcome outcome = load(static_cast<PageNumber>(page), contents.data());
        failed(outcome))
      return outcome;
  return kDone;
}

// The lists of blocks. What lies between them is the program's.
Outcome FileView::verify_heap() {
  const std::uint64_t most = header_.used_pages * kPageBytes / 16;
  for (const HeapHeader::Class& blocks : header_.classes) {
    const auto unused = reinterpret_cast<std::uintptr_t>(blocks.unused);
    const auto end = reinterpret_cast<std::uintptr_t>(blocks.unused_end);
    if (unused != end && (unused > end || !is_inside(unused, end - unused)))
      return damaged("a run of unused blocks lies outside", block_.base);
    std::uint64_t count = 0;
    for (auto block = reinterpret_cast<std::uintptr_t>(blocks.free); block != 0; ++count) {
      if (!is_inside(block, sizeof(FreeBlock)) || block % 16 != 0 || count > most)
        return damaged("a free block lies outside, or in a circle", block_.base);
      std::uintptr_t next = 0;
      if (const Outcome outcome =
              read(block, std::as_writable_bytes(std::span(&next, std::size_t{1})));
          failed(outcome))
        return outcome;
      if (const Outcome outcome = verify_pointer(block); failed(outcome)) return outcome;
      block = next;
    }
  }
  return verify_map();
}

// In the pointer map, if there is one.
Outcome FileView::verify_pointer(std::uint64_t address) noexcept {
  if (header_.map_directory == 0) return kDone;
  std::uint64_t marks = 0;
  if (const Outcome outcome = read_marks(address, marks); failed(outcome)) return outcome;
  return (marks >> ((address - block_.base) / 8 % 64) & 1) != 0
             ? kDone
             : damaged("a pointer of the heap is not in the pointer map", address);
}

Outcome FileView::verify_map() {
  if (header_.map_directory == 0) return kDone;
  if (header_.map_covered != (header_.used_pages + kMappedPages - 1) / kMappedPages)
    return damaged("the pointer map has another length", block_.base);
  for (std::uint64_t chunk = 0; chunk < header_.map_covered; ++chunk) {
    std::uint64_t marks = 0;
    const std::uint64_t address = block_.base + chunk * kMappedPages * kPageBytes;
    if (const Outcome outcome = read_marks(address, marks); failed(outcome)) return outcome;
  }
  return kDone;
}

Outcome FileView::read_table(std::uint64_t page, std::uint64_t index, PageNumber& table) noexcept {
  const std::uint64_t address = block_.base + page * kPageBytes + index * sizeof table;
  if (!is_inside(address, sizeof table))
    return damaged("the pointer map lies outside", block_.base);
  if (const Outcome outcome =
          read(address, std::as_writable_bytes(std::span(&table, std::size_t{1})));
      failed(outcome))
    return outcome;
  if (table < kHotPages || table >= header_.used_pages)
    return damaged("a page of the pointer map lies outside", address);
  return kDone;
}

Outcome FileView::read_marks(std::uint64_t address, std::uint64_t& marks) noexcept {
  const std::uint64_t page = (address - block_.base) / kPageBytes;
  const std::uint64_t chunk = page / kMappedPages;
  if (chunk != last_chunk_) {
    PageNumber leaf = 0;
    Outcome outcome = read_table(header_.map_directory, chunk / kLeafEntries, leaf);
    if (!failed(outcome)) outcome = read_table(leaf, chunk % kLeafEntries, last_table_);
    if (failed(outcome)) return outcome;
    last_chunk_ = chunk;
  }
  const std::uint64_t bit = (address - block_.base) / 8 % (kMappedPages * kWordsOfPage);
  return read(block_.base + std::uint64_t{last_table_} * kPageBytes + bit / 64 * sizeof marks,
              std::as_writable_bytes(std::span(&marks, std::size_t{1})));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

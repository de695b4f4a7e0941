#include "store/heap/heap.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "store/format/checksum.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// Blocks of a power of two bytes lie at multiples of it, up to a page; so more alignment is a
// bigger class.
std::size_t rounded(std::size_t size, std::size_t alignment) noexcept {
  return alignment <= 16 ? std::max<std::size_t>(size, 1)
                         : std::bit_ceil(std::max(size, alignment));
}

std::size_t pages_of(std::size_t size) noexcept { return (size + kPageBytes - 1) / kPageBytes; }

// At least eight blocks at a time, and no less than a page.
std::size_t batch_pages(std::size_t block) noexcept { return pages_of(8 * block); }

// Of the block that is handed out for it.
std::size_t block_bytes(std::size_t size, std::size_t alignment) noexcept {
  const std::size_t wanted = rounded(size, alignment);
  return wanted > kLargestBlock ? pages_of(wanted) * kPageBytes : class_size(size_class(wanted));
}

std::size_t bytes_of(const RootEntry& root) noexcept {
  return sizeof(RootEntry) + root.name_bytes + (root.type_bytes & ~kTypedRoot);
}

constexpr std::uint32_t kRootPointers[] = {offsetof(RootEntry, next) / 8,
                                           offsetof(RootEntry, object) / 8};
constexpr TypeMap kRootMap{sizeof(RootEntry) / 8, kRootPointers, std::size(kRootPointers)};

}  // namespace

void* Heap::allocate(std::size_t size, std::size_t alignment) noexcept {
  // What an earlier call had no room for.
  if (!map_.cover()) return nullptr;
  void* const block = take(size, alignment);
  if (block == nullptr || map_.cover()) return block;
  take_back(block, size, alignment);
  return nullptr;
}

// Just made of pages that were never used.
void Heap::take_back(void* block, std::size_t size, std::size_t alignment) noexcept {
  const std::size_t length = block_bytes(size, alignment);
  header().allocated_bytes -= length;
  if (length > kLargestBlock) {
    runs_.free(runs_.page_of(block), length / kPageBytes);
  } else {
    header().classes[size_class(length)].unused = static_cast<std::byte*>(block);
  }
}

void* Heap::allocate_typed(std::size_t size, std::size_t alignment, const TypeMap& type) noexcept {
  if (!map_.exists() && !make_map()) return nullptr;
  void* const block = allocate(size, alignment);
  if (block == nullptr) return nullptr;
  const std::size_t length = block_bytes(size, alignment);
  map_.set(block, length, size / 8 / type.element_words, type);
  header().typed_bytes += length;
  return block;
}

void Heap::deallocate_typed(void* block, std::size_t size, std::size_t alignment) noexcept {
  header().typed_bytes -= block_bytes(size, alignment);
  deallocate(block, size, alignment);
}

// Free blocks and root entries have pointers too: those of before.
bool Heap::make_map() noexcept {
  if (!map_.create()) return false;
  if (!map_.cover()) {
    map_.forget();
    return false;
  }
  for (const HeapHeader::Class& blocks : header().classes)
    for (FreeBlock* block = blocks.free; block != nullptr; block = block->next)
      map_.mark(&block->next);
  for (RootEntry* bucket : header().roots)
    for (RootEntry* root = bucket; root != nullptr; root = root->next) mark_root(root);
  return true;
}

void Heap::mark_root(RootEntry* root) noexcept {
  const std::size_t length = block_bytes(bytes_of(*root), alignof(RootEntry));
  map_.set(root, length, 1, kRootMap);
  header().typed_bytes += length;
}

void* Heap::take(std::size_t size, std::size_t alignment) noexcept {
  if (alignment > kPageBytes || size > (std::size_t{1} << 47)) return nullptr;
  const std::size_t wanted = rounded(size, alignment);
  if (wanted > kLargestBlock) {
    const PageNumber first = runs_.allocate(pages_of(wanted));
    if (first == 0) return nullptr;
    header().allocated_bytes += pages_of(wanted) * kPageBytes;
    return runs_.address(first);
  }
  const unsigned index = size_class(wanted);
  const std::size_t length = class_size(index);
  HeapHeader::Class& blocks = header().classes[index];
  if (FreeBlock* const block = blocks.free) {
    blocks.free = block->next;
    header().allocated_bytes += length;
    return block;
  }
  if (blocks.unused == blocks.unused_end) {
    const std::size_t pages = batch_pages(length);
    const PageNumber first = runs_.allocate(pages);
    if (first == 0) return nullptr;
    blocks.unused = runs_.address(first);
    blocks.unused_end = blocks.unused + pages * kPageBytes / length * length;
  }
  std::byte* const block = blocks.unused;
  blocks.unused += length;
  header().allocated_bytes += length;
  return block;
}

void Heap::deallocate(void* block, std::size_t size, std::size_t alignment) noexcept {
  const std::size_t given = rounded(size, alignment);
  if (given > kLargestBlock) {
    header().allocated_bytes -= pages_of(given) * kPageBytes;
    runs_.free(runs_.page_of(block), pages_of(given));
    return;
  }
  const unsigned index = size_class(given);
  HeapHeader::Class& blocks = header().classes[index];
  runs_.changing(block, sizeof(FreeBlock));
  blocks.free = new (block) FreeBlock{blocks.free};
  if (map_.exists()) map_.mark(block);
  header().allocated_bytes -= class_size(index);
}

RootEntry*& Heap::bucket(std::string_view name) const noexcept {
  const std::uint64_t hash = checksum(std::as_bytes(std::span(name)), 0);
  return header().roots[hash % kRootBuckets];
}

RootEntry* Heap::find_root(std::string_view name) const noexcept {
  for (RootEntry* root = bucket(name); root != nullptr; root = root->next)
    if (name_of(*root) == name) return root;
  return nullptr;
}

Result<void*> Heap::find_object(std::string_view name, const TypeMark& mark) const {
  const RootEntry* const root = find_root(name);
  if (root == nullptr) return static_cast<void*>(nullptr);
  if (root->fingerprint != fingerprint(mark))
    return Error{"root of a store",
                 EPROTOTYPE,
                 {},
                 "it was made as another type or layout: Store::migrate()"};
  return root->object;
}

std::vector<Root> Heap::list_roots() const {
  std::vector<Root> found;
  for (const RootEntry* bucket : header().roots)
    for (const RootEntry* root = bucket; root != nullptr; root = root->next)
      found.push_back({std::string(name_of(*root)), std::string(type_of(*root)), root->object,
                       root->object_bytes});
  return found;
}

RootEntry* Heap::add_root(std::string_view name, std::string_view type) noexcept {
  const std::size_t size = sizeof(RootEntry) + name.size() + type.size();
  void* const block = allocate(size, alignof(RootEntry));
  if (block == nullptr) return nullptr;
  runs_.changing(block, size);
  RootEntry*& first = bucket(name);
  auto* const root = new (block) RootEntry;
  root->next = first;
  root->name_bytes = static_cast<std::uint32_t>(name.size());
  root->type_bytes = static_cast<std::uint32_t>(type.size());
  auto* const text = reinterpret_cast<char*>(root + 1);
  std::memcpy(text, name.data(), name.size());
  std::memcpy(text + name.size(), type.data(), type.size());
  first = root;
  if (map_.exists()) mark_root(root);
  header().root_count += 1;
  return root;
}

void Heap::remove_root(std::string_view name) noexcept {
  for (RootEntry** place = &bucket(name); *place != nullptr; place = &(*place)->next) {
    RootEntry* const root = *place;
    if (name_of(*root) != name) continue;
    runs_.changing(place, sizeof(*place));
    *place = root->next;
    if (map_.exists()) {
      deallocate_typed(root, bytes_of(*root), alignof(RootEntry));
    } else {
      deallocate(root, bytes_of(*root), alignof(RootEntry));
    }
    header().root_count -= 1;
    return;
  }
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap

#include "compress/page_store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// A blob: the checksum of the rest, then the rest.
constexpr std::size_t kChecksum = sizeof(std::uint32_t);

// Shorter by less is not worth the time to expand it. zram's limit, 0.75 to 0.92 of a page by its
// allocator's classes, is about the same.
std::size_t worth_while() noexcept PAGETRAP_SIGNAL_SAFE { return page_size() / 16 * 15; }

// Address space is cheap, a budget that cannot grow is not.
constexpr std::size_t kGrowth = 4;

// Locks are held for 0.1 us of the 2 us of a load: more shards than this are for machines with more
// threads than have been seen. But each has a segment that is half empty.
unsigned shards_for(std::size_t budget) { return budget >= 256_MiB ? 4 : budget >= 64_MiB ? 2 : 1; }

/// Blocks signals for a call, unless the caller has.
class Guarded {
 public:
  explicit Guarded(bool already) noexcept PAGETRAP_SIGNAL_SAFE {
    if (!already) blocked_.emplace(sys::AllSignalsBlocked::But::faults);
  }

 private:
  std::optional<sys::AllSignalsBlocked> blocked_;
};

std::uint64_t seed_of(PageClass page_class, unsigned codec) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<std::uint64_t>(page_class) << 8 | codec;
}

/// Whether all words of `page` are equal: that word.
bool same_filled(std::span<const std::byte> page, std::uint64_t& word) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::memcpy(&word, page.data(), sizeof word);
  // Overlapping: the page equals itself, a word further on.
  return std::memcmp(page.data(), page.data() + sizeof word, page.size() - sizeof word) == 0;
}

void fill_with(std::uint64_t word, std::span<std::byte> page) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t at = 0; at < page.size(); at += sizeof word)
    std::memcpy(page.data() + at, &word, sizeof word);
}

Error damaged(const char* what) noexcept PAGETRAP_SIGNAL_SAFE {
  return {what, EBADMSG, {}, "the memory or file that had the page was overwritten"};
}

Result<StoredPage> put(PageStoreState& state, StoredPage page,
                       std::span<const std::byte> body) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t sum = checksum(body, seed_of(page.page_class, page.codec));
  const auto blob = state.blobs.put(std::as_bytes(std::span(&sum, 1)), body);
  if (!blob) return blob.error();
  page.blob = *blob;
  state.pages_of(page.page_class).fetch_add(1, std::memory_order_relaxed);
  return page;
}

/// Pages of one word, which need no codec. False: not one.
bool keep_word(PageStoreState& state, std::span<const std::byte> page, std::uint64_t hash,
               Result<StoredPage>& result) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint64_t word = 0;
  if (!same_filled(page, word)) return false;
  StoredPage stored{hash, 0, PageClass::same_filled, 0};
  if (word != 0) {
    result = put(state, stored, page.first(sizeof word));
    return true;
  }
  stored.page_class = PageClass::zero;
  state.pages_of(PageClass::zero).fetch_add(1, std::memory_order_relaxed);
  result = stored;
  return true;
}

Result<StoredPage> keep(PageStoreState& state, std::span<const std::byte> page, std::uint64_t hash,
                        Tier tier, Workspace& space) noexcept PAGETRAP_SIGNAL_SAFE {
  StoredPage stored{hash, 0, PageClass::raw, 0};
  const CodecTable::Use use(state.codecs, tier);
  const Codec& codec = state.codecs.codec(use.slot());
  const std::span<std::byte> room = space.blob.first(worth_while());
  const std::size_t length =
      codec.compress(page, room, space.for_codec(codec, state.codecs.serial(use.slot())));
  if (length == 0 || length > room.size()) return put(state, stored, page);
  stored.page_class = PageClass::compressed;
  stored.codec = static_cast<std::uint8_t>(use.slot());
  auto result = put(state, stored, room.first(length));
  if (result) state.codecs.count_page(use.slot());
  return result;
}

Result<Done> expand(PageStoreState& state, const StoredPage& stored,
                    std::span<const std::byte> body, std::span<std::byte> page,
                    Workspace& space) noexcept PAGETRAP_SIGNAL_SAFE {
  switch (stored.page_class) {
    case PageClass::same_filled: {
      std::uint64_t word = 0;
      if (body.size() != sizeof word) return damaged("expanding a page");
      std::memcpy(&word, body.data(), sizeof word);
      fill_with(word, page);
      return Done{};
    }
    case PageClass::raw:
      if (body.size() != page.size()) return damaged("expanding a page");
      std::memcpy(page.data(), body.data(), page.size());
      return Done{};
    default:
      break;
  }
  const Codec& codec = state.codecs.codec(stored.codec);
  if (!codec.expand(body, page, space.for_codec(codec, state.codecs.serial(stored.codec))))
    return damaged("expanding a page");
  return Done{};
}

Result<Done> fetch(PageStoreState& state, const StoredPage& stored, std::span<std::byte> page,
                   Workspace& space) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto length = state.blobs.get(stored.blob, space.blob);
  if (!length) return length.error();
  Result<Done> result = damaged("reading a stored page");
  if (*length > kChecksum) {
    std::uint32_t sum = 0;
    std::memcpy(&sum, space.blob.data(), sizeof sum);
    const std::span<const std::byte> body = space.blob.subspan(kChecksum, *length - kChecksum);
    if (sum == checksum(body, seed_of(stored.page_class, stored.codec)))
      result = expand(state, stored, body, page, space);
  }
  if (!result) state.damaged.fetch_add(1, std::memory_order_relaxed);
  return result;
}

}  // namespace

// --- set-up -----------------------------------------------------------------------------------

Result<PageStore> PageStore::create(PageStoreOptions options) {
  // The store's from here on, also if we fail.
  sys::Descriptor file(options.spill_file);
  if (options.budget_bytes < 2 * Segment::size_bytes())
    return Error{"PageStore::create", EINVAL, {}, "a budget of two segments, 64 KiB, is the least"};
  auto hash = ContentHash::create();
  if (!hash) return hash.error();
  auto memory = own_memory(sizeof(PageStoreState), "pagetrap page store");
  if (!memory) return memory.error();
  auto* const state = new (memory->data()) PageStoreState(options.budget_bytes, *hash);
  state->memory = std::move(*memory);
  PageStore store(state);
  state->signals_blocked = options.signals_blocked;

  auto warm = options.warm != nullptr ? std::move(options.warm) : lz4();
  auto cold = options.cold != nullptr ? std::move(options.cold) : zstd();
  // Trained ones may need somewhat more. It costs addresses.
  const std::size_t scratch = 2 * std::max(warm->scratch_bytes(), cold->scratch_bytes()) + 64_KiB;
  auto opened = state->workspaces.open(options.workspaces, scratch);
  if (!opened) return opened.error();
  opened = store.use(std::move(warm), Tier::warm);
  if (!opened) return opened.error();
  opened = store.use(std::move(cold), Tier::cold);
  if (!opened) return opened.error();
  const std::size_t capacity = std::max(
      options.capacity_bytes != 0 ? options.capacity_bytes : options.budget_bytes * kGrowth,
      options.budget_bytes);
  opened = state->blobs.open(capacity, shards_for(options.budget_bytes));
  if (!opened) return opened.error();
  if (options.spill_bytes != 0) {
    if (!file.valid()) {
      auto made = unnamed_file(options.spill_directory);
      if (!made) return made.error();
      file = std::move(*made);
    }
    opened = state->blobs.open_spill(std::move(file), options.spill_bytes);
    if (!opened) return opened.error();
  }
  return store;
}

PageStore::PageStore(PageStore&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

PageStore& PageStore::operator=(PageStore&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

PageStore::~PageStore() {
  if (state_ == nullptr) return;
  const sys::Mapping memory = std::move(state_->memory);
  state_->~PageStoreState();
}

// --- pages ------------------------------------------------------------------------------------

std::uint64_t PageStore::hash(std::span<const std::byte> page) const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->hash(page);
}

Result<StoredPage> PageStore::store(std::span<const std::byte> page, Tier tier) noexcept
    PAGETRAP_SIGNAL_SAFE {
  return store_hashed(page, hash(page), tier);
}

Result<StoredPage> PageStore::store_hashed(std::span<const std::byte> page, std::uint64_t hash,
                                           Tier tier) noexcept PAGETRAP_SIGNAL_SAFE {
  if (page.size() != page_size()) return Error{"storing a page", EINVAL};
  const Guarded guarded(state_->signals_blocked);
  state_->stored.fetch_add(1, std::memory_order_relaxed);
  Result<StoredPage> result = StoredPage{};
  if (keep_word(*state_, page, hash, result)) return result;
  const Workspaces::Lease space(state_->workspaces);
  return keep(*state_, page, hash, tier, *space);
}

Result<Done> PageStore::load(const StoredPage& stored, std::span<std::byte> page) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (page.size() != page_size()) return Error{"loading a page", EINVAL};
  state_->loaded.fetch_add(1, std::memory_order_relaxed);
  if (stored.page_class == PageClass::none) return Error{"loading a page", ENOENT};
  if (stored.page_class == PageClass::zero) {
    std::memset(page.data(), 0, page.size());
    return Done{};
  }
  const Guarded guarded(state_->signals_blocked);
  const Workspaces::Lease space(state_->workspaces);
  return fetch(*state_, stored, page, *space);
}

Result<Done> PageStore::release(const StoredPage& stored) noexcept PAGETRAP_SIGNAL_SAFE {
  if (stored.page_class == PageClass::none) return Error{"releasing a page", ENOENT};
  if (stored.page_class != PageClass::zero) {
    const Guarded guarded(state_->signals_blocked);
    const auto was_spilled = state_->blobs.release(stored.blob);
    if (!was_spilled) return was_spilled.error();
    if (*was_spilled) state_->spilled.fetch_sub(1, std::memory_order_relaxed);
    if (stored.page_class == PageClass::compressed) state_->codecs.forget_page(stored.codec);
  }
  state_->pages_of(stored.page_class).fetch_sub(1, std::memory_order_relaxed);
  return Done{};
}

Result<StoredPage> PageStore::again(const StoredPage& stored, Tier tier) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (stored.page_class != PageClass::compressed && stored.page_class != PageClass::raw)
    return Error{"storing a page again", EINVAL, {}, "no codec has a part in it"};
  const Guarded guarded(state_->signals_blocked);
  const Workspaces::Lease space(state_->workspaces);
  const auto loaded = fetch(*state_, stored, space->page, *space);
  if (!loaded) return loaded.error();
  return keep(*state_, space->page, stored.hash, tier, *space);
}

Result<Done> PageStore::spill(const StoredPage& stored) noexcept PAGETRAP_SIGNAL_SAFE {
  if (stored.page_class == PageClass::none || stored.page_class == PageClass::zero)
    return Error{"spilling a page", EINVAL, {}, "it takes no memory"};
  const Guarded guarded(state_->signals_blocked);
  const Workspaces::Lease space(state_->workspaces);
  auto result = state_->blobs.spill(stored.blob, space->blob);
  if (result) state_->spilled.fetch_add(1, std::memory_order_relaxed);
  return result;
}

bool PageStore::compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE {
  const Guarded guarded(state_->signals_blocked);
  return state_->blobs.compact(blobs);
}

// --- codecs -----------------------------------------------------------------------------------

namespace {

/// Of every 16th of `pages`.
std::size_t bytes_of_some(const Codec& codec, std::span<const std::byte> pages,
                          std::span<std::byte> scratch, std::span<std::byte> out) {
  std::size_t sum = 0;
  codec.prepare(scratch);
  for (std::size_t at = 0; at + page_size() <= pages.size(); at += 16 * page_size()) {
    const std::size_t length = codec.compress(pages.subspan(at, page_size()), out, scratch);
    sum += length == 0 ? page_size() : length;
  }
  return sum;
}

/// A dictionary doubles the time to compress a page.
Result<Done> is_worth_it(const Codec& trained, const Codec& plain,
                         std::span<const std::byte> pages) {
  const std::size_t longest = std::max(trained.scratch_bytes(), plain.scratch_bytes());
  const auto scratch = own_memory(longest, "pagetrap codec");
  if (!scratch) return scratch.error();
  const auto out = own_memory(page_size(), "pagetrap codec");
  if (!out) return out.error();
  const std::span<std::byte> space{scratch->data(), longest};
  const std::span<std::byte> blob{out->data(), page_size() * 15 / 16};
  const std::size_t with = bytes_of_some(trained, pages, space, blob);
  const std::size_t without = bytes_of_some(plain, pages, space, blob);
  if (with * 100 > without * 85)
    return Error{"PageStore::train", EINVAL, {}, "less than 15% of the bytes would be saved"};
  return Done{};
}

}  // namespace

Result<Done> PageStore::train(std::span<const std::byte> pages, Tier tier) {
  std::unique_ptr<Codec> trained;
  {
    const std::lock_guard lock(state_->installing);
    auto made = state_->codecs.current(tier).train(pages);
    if (!made) return made.error();
    trained = std::move(*made);
    const Codec& current = state_->codecs.current(tier);
    const bool first = current.own_bytes() == 0;  // later ones replace a dictionary that has aged
    if (auto worth = is_worth_it(*trained, current, pages); first && !worth) return worth;
  }
  return use(std::move(trained), tier);
}

Result<Done> PageStore::use(std::unique_ptr<Codec> codec, Tier tier) {
  if (codec == nullptr) return Error{"PageStore::use", EINVAL};
  if (codec->scratch_bytes() > state_->workspaces.scratch_bytes())
    return Error{"PageStore::use", ENOBUFS, {}, "give it to PageStore::create"};
  const std::lock_guard lock(state_->installing);
  return state_->codecs.install(std::move(codec), tier);
}

// --- the whole --------------------------------------------------------------------------------

void PageStore::set_budget(std::size_t bytes) noexcept PAGETRAP_SIGNAL_SAFE {
  state_->budget.set_limit(bytes);
}

std::size_t PageStore::memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->budget.used() + state_->codecs.own_bytes() +
         state_->workspaces.ever_used() * (state_->codecs.scratch_bytes() + 3 * page_size());
}

PageStoreStatistics PageStore::statistics() const {
  const Guarded guarded(state_->signals_blocked);
  PageStoreStatistics all;
  all.zero_pages = state_->pages_of(PageClass::zero).load();
  all.same_filled_pages = state_->pages_of(PageClass::same_filled).load();
  all.compressed_pages = state_->pages_of(PageClass::compressed).load();
  all.raw_pages = state_->pages_of(PageClass::raw).load();
  all.spilled_pages = state_->spilled.load();
  const SlabStatistics pool = state_->blobs.statistics();
  all.blob_bytes = pool.blob_bytes;
  all.pool_bytes = state_->budget.used();
  all.moved_blobs = pool.moved_blobs;
  all.slid_bytes = pool.slid_bytes;
  all.dictionary_bytes = state_->codecs.own_bytes();
  all.workspace_bytes =
      state_->workspaces.ever_used() * (state_->codecs.scratch_bytes() + 3 * page_size());
  all.file_bytes = state_->blobs.file_bytes();
  all.stored = state_->stored.load();
  all.loaded = state_->loaded.load();
  all.damaged = state_->damaged.load();
  return all;
}

void PageStore::lock_for_fork() noexcept PAGETRAP_SIGNAL_SAFE {
  // Whoever waits for a workspace has no lock, and whoever has a workspace gets its locks.
  state_->workspaces.take_all();
  state_->blobs.lock_all();
}

void PageStore::unlock_after_fork() noexcept PAGETRAP_SIGNAL_SAFE {
  state_->blobs.unlock_all();
  state_->workspaces.give_back_all();
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

#include "compress/compressed_source.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "sys/company.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

std::span<std::byte> span_of(const pager::PageRef& page) noexcept PAGETRAP_SIGNAL_SAFE {
  return {page.bytes, page_size()};
}

}  // namespace

// --- records ----------------------------------------------------------------------------------

void CompressedSourceState::mark(Record& record, Copy copy) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool was = record.copy != Copy::none;
  if (record.copy == Copy::retained) kept_pages.fetch_sub(1, std::memory_order_relaxed);
  if (copy == Copy::retained) kept_pages.fetch_add(1, std::memory_order_relaxed);
  record.copy = copy;
  const bool is = copy != Copy::none;
  if (is && !was) retained_pages.fetch_add(1, std::memory_order_relaxed);
  if (was && !is) retained_pages.fetch_sub(1, std::memory_order_relaxed);
}

/// There is no copy any more.
void CompressedSourceState::let_go(Record& record) noexcept PAGETRAP_SIGNAL_SAFE {
  mark(record, Copy::none);
  if (record.page_class == PageClass::none) return;
  // It is there: only we release it.
  static_cast<void>(store.release(record.stored()));
  record.set({});
  stored_pages.fetch_sub(1, std::memory_order_relaxed);
}

void CompressedSourceState::put_in_place(Record& record, const StoredPage& stored) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const Whose whose = record.whose;
  let_go(record);
  record.set(stored);
  record.whose = whose;
  stored_pages.fetch_add(1, std::memory_order_relaxed);
}

Error CompressedSourceState::replace(Record& record, std::span<const std::byte> page,
                                     std::uint64_t hash) noexcept PAGETRAP_SIGNAL_SAFE {
  auto made = store.store_hashed(page, hash);
  if (!made && record.page_class != PageClass::none && record.whose == Whose::program) {
    // What is stored is out of date, and in the way.
    let_go(record);
    made = store.store_hashed(page, hash);
  }
  if (!made) return made.error();
  put_in_place(record, *made);
  return {};
}

bool CompressedSourceState::may_retain_more() noexcept PAGETRAP_SIGNAL_SAFE {
  // One in 32 is let go in any case, so that it is known what that costs.
  if (turns.fetch_add(1, std::memory_order_relaxed) % 32 == 31) return false;
  return retained_pages.load(std::memory_order_relaxed) * 16 <
         stored_pages.load(std::memory_order_relaxed) * sixteenths.load(std::memory_order_relaxed);
}

void CompressedSourceState::adapt() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t stored = stored_pages.load(std::memory_order_relaxed);
  const std::size_t copy_bytes = store.memory_bytes() / std::max<std::size_t>(stored, 1);
  const Costs::Advice advice =
      costs.advise(std::max<std::size_t>(arrived_pages.load(std::memory_order_relaxed), 1),
                   kept_pages.load(std::memory_order_relaxed), copy_bytes, page_size());
  const unsigned now = sixteenths.load(std::memory_order_relaxed);
  if (advice == Costs::Advice::more && now < retain_most)
    sixteenths.store(now + 1, std::memory_order_relaxed);
  if (advice == Costs::Advice::less && now > retain_least)
    sixteenths.store(now - 1, std::memory_order_relaxed);
}

/// In the helper thread.
void CompressedSourceState::learn_from(std::span<const std::byte> page) {
  // Not the first pages of all: a program's heap is not yet itself.
  if (lessons_taken >= lessons_wanted || ++snapshots_seen % 4 != 0) return;
  std::memcpy(lessons.data() + lessons_taken * page_size(), page.data(), page_size());
  if (++lessons_taken < lessons_wanted) return;
  try {
    learning = std::make_unique<std::thread>([this] {
      const sys::OwnThread own;
      sys::give_way();
      const std::span<const std::byte> seen{lessons.data(), lessons_wanted * page_size()};
      const auto done = store.train(seen);
      learnt.store(bool(done), std::memory_order_relaxed);
      // Where that is not worth it, what grows cold goes without.
      if (chill_after != 0) static_cast<void>(store.train(seen, Tier::cold));
      lessons.reset();
      lessons_over.store(true, std::memory_order_release);
    });
  } catch (const std::exception&) {
    // No thread, or no memory: plain LZ4 it remains.
    lessons_wanted = 0;
  }
}

// --- set-up -----------------------------------------------------------------------------------

Result<std::unique_ptr<CompressedSource>> CompressedSource::create(
    std::size_t size_bytes, CompressedSourceOptions options) {
  const std::size_t pages = pages_for(size_bytes).count();
  if (pages == 0) return Error{"CompressedSource::create", EINVAL, {}, "a size of 0"};
  if (options.retain_least > options.retain_first || options.retain_first > options.retain_most ||
      options.retain_most > 16)
    return Error{"CompressedSource::create", EINVAL, {}, "retain_ is least, first, most of 16"};
  if (options.chill_after >= kOldest || options.spill_after >= kOldest)
    return Error{"CompressedSource::create", EINVAL, {}, "chill_after, spill_after are at most 14"};
  const bool spills = options.store.spill_bytes != 0;
  options.store.signals_blocked = true;  // by the pager, and by us in the calls that are ours
  if (options.store.budget_bytes == 0) {
    const std::size_t whole = bytes(Pages{pages});
    options.store.budget_bytes = whole + whole / 20 + 1_MiB;
    options.store.capacity_bytes = options.store.budget_bytes;
  }
  auto store = PageStore::create(std::move(options.store));
  if (!store) return store.error();
  auto records = own_memory(pages * sizeof(CompressedSourceState::Record), "pagetrap page records");
  if (!records) return records.error();
  auto lessons = own_memory(std::max<std::size_t>(options.learn_from_pages, 1) * page_size(),
                            "pagetrap sampled pages");
  if (!lessons) return lessons.error();
  auto source = std::unique_ptr<CompressedSource>(new CompressedSource);
  source->state_ = std::unique_ptr<CompressedSourceState>(
      new CompressedSourceState(std::move(*store), std::move(*records), pages));
  CompressedSourceState& state = *source->state_;
  state.spills = spills;
  state.retain_least = options.retain_least;
  state.sixteenths.store(options.retain_first);
  state.retain_most = options.retain_most;
  state.lessons = std::move(*lessons);
  state.lessons_wanted = options.learn_from_pages;
  state.chill_after = options.chill_after;
  state.spill_after = spills ? options.spill_after : 0;
  return source;
}

CompressedSource::~CompressedSource() {
  if (state_ != nullptr && state_->learning != nullptr) state_->learning->join();
}

pager::SourceTraits CompressedSource::traits() const noexcept {
  pager::SourceTraits traits;
  traits.finds_changes = true;
  traits.prepares = true;
  traits.may_block = state_->spills;
  traits.shared_store = state_->spills;
  return traits;
}

// --- pages ------------------------------------------------------------------------------------

pager::Transfer CompressedSource::fill(std::span<const pager::PageRef> pages) noexcept
    PAGETRAP_SIGNAL_SAFE {
  pager::Transfer transfer;
  for (const pager::PageRef& page : pages) {
    const Held held(state_->lock_of(page.index));
    const CompressedSourceState::Record& record = state_->record(page.index);
    if (record.page_class == PageClass::none) {
      std::memset(page.bytes, 0, page_size());
    } else {
      const std::uint64_t began = sys::monotonic_nanoseconds();
      if (const auto loaded = state_->store.load(record.stored(), span_of(page)); !loaded) {
        transfer.error = loaded.error();
        break;
      }
      state_->costs.loaded(sys::monotonic_nanoseconds() - began);
    }
    ++transfer.done;
  }
  state_->filled.fetch_add(transfer.done, std::memory_order_relaxed);
  return transfer;
}

void CompressedSource::arrived(std::uint64_t first, std::size_t count, std::size_t soon) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t returned = 0;
  for (std::uint64_t page = first; page < first + count; ++page) {
    const Held held(state_->lock_of(page));
    CompressedSourceState::Record& record = state_->record(page);
    if (record.whose == Whose::ours) state_->arrived_pages.fetch_add(1, std::memory_order_relaxed);
    record.whose = Whose::program;
    if (record.page_class == PageClass::none) continue;
    ++returned;
    if (state_->may_retain_more()) {
      state_->mark(record, Copy::retained);
    } else {
      state_->let_go(record);
      state_->given_up.fetch_add(1, std::memory_order_relaxed);
    }
  }
  state_->costs.returned(returned, soon);
}

pager::Transfer CompressedSource::write_back(std::span<const pager::PageRef> pages) noexcept
    PAGETRAP_SIGNAL_SAFE {
  pager::Transfer transfer;
  for (const pager::PageRef& page : pages) {
    const std::uint64_t hash = state_->store.hash(span_of(page));
    const Held held(state_->lock_of(page.index));
    CompressedSourceState::Record& record = state_->record(page.index);
    const bool unchanged = record.page_class != PageClass::none && record.hash == hash;
    const Copy copy = record.copy;
    std::uint64_t took = 0;
    if (unchanged) {
      ++transfer.unchanged;
    } else {
      const std::uint64_t began = sys::monotonic_nanoseconds();
      transfer.error = state_->replace(record, span_of(page), hash);
      if (transfer.error.number != 0) break;
      took = sys::monotonic_nanoseconds() - began;
    }
    if (copy == Copy::retained) {
      state_->costs.kept_copy(unchanged);
    } else {
      state_->costs.without_copy(took);
    }
    if (record.whose == Whose::program)
      state_->arrived_pages.fetch_sub(1, std::memory_order_relaxed);
    record.whose = Whose::ours;
    record.age = 0;
    state_->mark(record, Copy::none);
    ++transfer.done;
  }
  state_->written.fetch_add(transfer.done, std::memory_order_relaxed);
  state_->unchanged.fetch_add(transfer.unchanged, std::memory_order_relaxed);
  state_->adapt();
  return transfer;
}

void CompressedSource::forget(std::uint64_t first, std::size_t count) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::uint64_t page = first; page < first + count; ++page) {
    const Held held(state_->lock_of(page));
    CompressedSourceState::Record& record = state_->record(page);
    if (record.page_class == PageClass::none && record.whose == Whose::ours) continue;
    state_->let_go(record);
    if (record.whose == Whose::program)
      state_->arrived_pages.fetch_sub(1, std::memory_order_relaxed);
    record.whose = Whose::ours;
  }
}

// The page's lock is not held while it is compressed: a fault on another page may want it.
//
// RACE the page is written back between its snapshot and the end of this: then what is stored is
// the only copy, `whose` says so, and an older snapshot must not replace it. RACE it is written
// back and has arrived again meanwhile: what is stored is a retained copy, and an old one costs a
// compression at worst.
void CompressedSourceState::prepare(std::uint64_t index, std::span<const std::byte> page) noexcept {
  const std::uint64_t hash = store.hash(page);
  const auto is_wanted = [&](const Record& record) noexcept {
    const bool equal = record.page_class != PageClass::none && record.hash == hash;
    return record.whose == Whose::program && !equal;
  };
  {
    const Held held(lock_of(index));
    if (!is_wanted(record(index))) return;
  }
  const auto made = store.store_hashed(page, hash);
  if (!made) return;  // no room is no harm: write_back() will see to it
  {
    const Held held(lock_of(index));
    Record& now = record(index);
    if (is_wanted(now)) {
      put_in_place(now, *made);
      mark(now, Copy::prepared);
      prepared.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  static_cast<void>(store.release(*made));  // it is there: we have just made it
}

void CompressedSource::prepare(std::span<const pager::PageRef> snapshots) noexcept {
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  for (const pager::PageRef& page : snapshots) {
    state_->prepare(page.index, span_of(page));
    state_->learn_from(span_of(page));
  }
  state_->age(snapshots.size());
  static_cast<void>(state_->store.compact(4));  // a little now and then is enough
}

std::size_t CompressedSource::memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->store.memory_bytes();
}

void CompressedSource::in_child() noexcept {
  // A thread that was learning does not exist here, nor does what it had locked end: no more of it.
  state_->lessons_wanted = 0;
  static_cast<void>(state_->learning.release());
}

// --- parking ----------------------------------------------------------------------------------

namespace {

template <class Work>
Result<Done> for_ours(CompressedSourceState& state, std::uint64_t first, std::size_t count,
                      Work work) {
  if (first > state.pages || count > state.pages - first)
    return Error{"CompressedSource", EINVAL, {}, "the pages are not the region's"};
  Result<Done> result = Done{};
  for (std::uint64_t page = first; page < first + count; ++page) {
    const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
    const Held held(state.lock_of(page));
    CompressedSourceState::Record& record = state.record(page);
    if (record.whose != Whose::ours || record.page_class == PageClass::none) continue;
    const Error error = work(record);
    if (error.number != 0 && result) result = error;
  }
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  while (state.store.compact(64)) {
  }
  return result;
}

}  // namespace

Result<Done> CompressedSource::chill(std::uint64_t first, std::size_t count) {
  return for_ours(*state_, first, count, [this](CompressedSourceState::Record& record) -> Error {
    return record.page_class == PageClass::compressed ? state_->chill(record) : Error{};
  });
}

Result<Done> CompressedSource::spill(std::uint64_t first, std::size_t count) {
  return for_ours(*state_, first, count, [this](CompressedSourceState::Record& record) -> Error {
    if (record.page_class == PageClass::zero) return {};
    const auto done = state_->store.spill(record.stored());
    return done || done.error().number == EALREADY ? Error{} : done.error();
  });
}

PageStore& CompressedSource::store() noexcept { return state_->store; }

CompressedSourceStatistics CompressedSource::statistics() const {
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  CompressedSourceStatistics all;
  all.store = state_->store.statistics();
  all.retained_pages = state_->retained_pages.load();
  all.retain_sixteenths = state_->sixteenths.load();
  all.filled = state_->filled.load();
  all.written = state_->written.load();
  all.unchanged = state_->unchanged.load();
  all.prepared = state_->prepared.load();
  all.let_go = state_->given_up.load();
  all.chilled = state_->chilled.load();
  all.aged_out = state_->aged_out.load();
  all.learnt = state_->learnt.load();
  all.lessons_over = state_->lessons_over.load();
  return all;
}

void* CompressedSource::operator new(std::size_t size) {
  auto memory = own_memory(size, "pagetrap compressed source");
  if (!memory) throw std::bad_alloc();
  return memory->release().base;
}

void CompressedSource::operator delete(void* source, std::size_t size) noexcept {
  const sys::Mapping memory({static_cast<std::byte*>(source), pages_for(size)});
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

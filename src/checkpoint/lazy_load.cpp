#include "checkpoint/lazy_load.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

PageRange range_of(Region& region, const ChainPiece& piece) {
  return {region.data() + bytes(Pages{piece.first_page}), Pages{piece.pages}};
}

// Puts the pieces of one decoded block where they belong.
Result<Done> place(const Chain& chain, const ChainBlock& block, const std::byte* pages,
                   const std::vector<Territory*>& territories) {
  for (const ChainPiece& piece : chain.pieces(block)) {
    Territory* const territory = territories[piece.region];
    if (territory == nullptr) continue;
    Region& region = territory->region();
    const PageRange range = range_of(region, piece);
    const std::byte* const from = pages + bytes(Pages{piece.page_in_block});
    if (region.can().faults.has(FaultKind::missing) && territory->cut() == Cut::lift) {
      if (const auto filled = region.supply(range, from, Supply::copy); !filled)
        return filled.error();
    } else {
      std::copy_n(from, range.size_bytes(), range.base);
    }
  }
  return Done{};
}

}  // namespace

Result<Done> load_all(const Chain& chain, const std::vector<Territory*>& territories,
                      unsigned threads) {
  std::atomic<std::size_t> next{0};
  std::mutex lock;
  Error error;
  const auto work = [&]() noexcept {
    std::vector<std::byte> pages(bytes(Pages{512}));
    std::vector<std::byte> scratch;
    for (;;) {
      const std::size_t i = next.fetch_add(1);
      if (i >= chain.blocks().size()) return;
      const ChainBlock& block = chain.blocks()[i];
      auto done = chain.load(block, std::span(pages).first(bytes(Pages{block.pages})), scratch);
      if (done) done = place(chain, block, pages.data(), territories);
      if (done) continue;
      const std::lock_guard guard(lock);
      if (error.number == 0) error = done.error();
      next.store(chain.blocks().size());
    }
  };
  {
    const NoSignals none;
    std::vector<std::jthread> helpers;
    try {
      while (helpers.size() + 1 < threads) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // Fewer threads do the same.
    }
    work();
  }
  if (error.number != 0) return error;
  return Done{};
}

LazyLoad::LazyLoad(std::unique_ptr<Chain> chain, std::vector<Territory*> territories)
    : chain_(std::move(chain)),
      territories_(std::move(territories)),
      states_(new std::atomic<State>[chain_->blocks().size()]()),
      left_(static_cast<std::uint32_t>(chain_->blocks().size())) {}

Result<Done> LazyLoad::index_pages() {
  block_of_.resize(territories_.size());
  // As far as there are pages: an arena may be reserved much larger.
  std::vector<std::uint64_t> ends(territories_.size());
  for (const ChainBlock& block : chain_->blocks())
    for (const ChainPiece& piece : chain_->pieces(block))
      ends[piece.region] = std::max(ends[piece.region], piece.first_page + piece.pages);
  for (std::size_t region = 0; region < territories_.size(); ++region)
    if (territories_[region] != nullptr) block_of_[region].assign(ends[region], kNoBlock);
  for (std::uint32_t i = 0; i < chain_->blocks().size(); ++i) {
    for (const ChainPiece& piece : chain_->pieces(chain_->blocks()[i])) {
      if (territories_[piece.region] == nullptr) continue;
      std::fill_n(block_of_[piece.region].begin() + static_cast<std::ptrdiff_t>(piece.first_page),
                  piece.pages, i);
    }
  }
  return Done{};
}

Result<std::unique_ptr<LazyLoad>> LazyLoad::start(std::unique_ptr<Chain> chain,
                                                  std::vector<Territory*> territories,
                                                  unsigned threads) {
  try {
    std::unique_ptr<LazyLoad> made(new LazyLoad(std::move(chain), std::move(territories)));
    if (const auto indexed = made->index_pages(); !indexed) return indexed.error();
    for (Territory* const territory : made->territories_)
      if (territory != nullptr) territory->begin_lazy(*made);
    const NoSignals none;
    while (made->workers_.size() < threads)
      made->workers_.emplace_back([load = made.get()] { load->work(); });
    return made;
  } catch (const std::bad_alloc&) {
    return Error{"lazy restore", ENOMEM};
  } catch (const std::system_error& refused) {
    return Error{"pthread_create of a thread that restores", refused.code().value()};
  }
}

LazyLoad::~LazyLoad() {
  for (std::thread& worker : workers_) worker.join();
  for (Territory* const territory : territories_)
    if (territory != nullptr) territory->end_lazy();
}

void LazyLoad::stop() noexcept { stopping_.store(true, std::memory_order_release); }

Result<Done> LazyLoad::wait() noexcept {
  {
    const std::lock_guard guard(joining_);
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }
  const std::lock_guard guard(error_lock_);
  if (error_.number != 0) return error_;
  return Done{};
}

Verdict LazyLoad::on_fault(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t region = 0; region < territories_.size(); ++region) {
    Territory* const territory = territories_[region];
    if (territory == nullptr || !territory->region().range().contains(fault.page.base)) continue;
    const auto page =
        static_cast<std::size_t>(fault.page.base - territory->region().data()) >> page_shift();
    const std::uint32_t block =
        page < block_of_[region].size() ? block_of_[region][page] : kNoBlock;
    if (block == kNoBlock) return fill_zeroes(*territory, region, fault);
    for (;;) {
      const std::uint32_t seen = territory->releases().load(std::memory_order_acquire);
      const State state = states_[block].load(std::memory_order_acquire);
      if (state == State::damaged) return Verdict::not_mine;
      // RACE the page came between the fault and here, or was dropped by the program since.
      if (state == State::loaded)
        return territory->region().supply(fault.page, nullptr, Supply::zero) ? Verdict::resolved
                                                                             : Verdict::not_mine;
      for (auto& slot : wishes_) {
        std::uint32_t known = slot.load(std::memory_order_relaxed);
        if (known == block + 1) break;
        if (known == 0 && slot.compare_exchange_strong(known, block + 1)) break;
      }
      if (fault.context == nullptr) return Verdict::resolved;  // sleeps until the block is there
      sys::futex_wait(territory->releases(), seen);
    }
  }
  return Verdict::not_mine;
}

// Only as far as no block's page is filled: supply() would leave it alone when it comes.
Verdict LazyLoad::fill_zeroes(Territory& territory, std::size_t region, const Fault& fault) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const auto first =
      static_cast<std::size_t>(fault.page.base - territory.region().data()) >> page_shift();
  const std::size_t all = territory.region().range().length.count();
  const std::vector<std::uint32_t>& blocks = block_of_[region];
  std::size_t count = 1;
  while (count < 16 && first + count < all &&
         (first + count >= blocks.size() || blocks[first + count] == kNoBlock))
    ++count;
  return territory.region().supply({fault.page.base, Pages{count}}, nullptr, Supply::zero)
             ? Verdict::resolved
             : Verdict::not_mine;
}

void LazyLoad::finish_block(std::uint32_t block, State state) noexcept {
  states_[block].store(state, std::memory_order_release);
  for (const ChainPiece& piece : chain_->pieces(chain_->blocks()[block])) {
    Territory* const territory = territories_[piece.region];
    if (territory != nullptr) territory->wake(range_of(territory->region(), piece));
  }
  left_.fetch_sub(1, std::memory_order_acq_rel);
}

void LazyLoad::load(std::uint32_t block, std::vector<std::byte>& pages,
                    std::vector<std::byte>& scratch) {
  const ChainBlock& which = chain_->blocks()[block];
  auto done = chain_->load(which, std::span(pages).first(bytes(Pages{which.pages})), scratch);
  if (done) done = place(*chain_, which, pages.data(), territories_);
  if (done) return finish_block(block, State::loaded);
  {
    const std::lock_guard guard(error_lock_);
    if (error_.number == 0) error_ = done.error();
  }
  SignalSafeText line;
  line.text("pagetrap: restore of ").text(chain_->image_path(which.image).c_str());
  line.text(": a damaged block; threads that touch it get SIGBUS\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
  finish_block(block, State::damaged);
}

void LazyLoad::work() noexcept {
  sys::ask_for_short_turns();
  std::vector<std::byte> pages(bytes(Pages{512}));
  std::vector<std::byte> scratch;
  const auto blocks = static_cast<std::uint32_t>(chain_->blocks().size());
  const auto take = [&](std::uint32_t block) {
    State absent = State::absent;
    if (states_[block].compare_exchange_strong(absent, State::loading)) load(block, pages, scratch);
  };
  for (;;) {
    for (auto& slot : wishes_)
      if (const std::uint32_t wish = slot.exchange(0, std::memory_order_acq_rel); wish != 0)
        take(wish - 1);
    const std::uint32_t next = next_.fetch_add(1, std::memory_order_relaxed);
    if (next >= blocks || stopping_.load(std::memory_order_acquire)) return;
    take(next);
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

// LazyLoad: a restore whose pages come when they are touched, and by and by.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/fault.hpp>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/territory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class LazyLoad {
 public:
  /// `territories[i]` is for region i of the chain's newest image; null: none of ours.
  static Result<std::unique_ptr<LazyLoad>> start(std::unique_ptr<Chain> chain,
                                                 std::vector<Territory*> territories,
                                                 unsigned threads);
  /// Waits for all of it.
  ~LazyLoad();
  Result<Done> wait() noexcept;
  [[nodiscard]] bool complete() const noexcept {
    return left_.load(std::memory_order_acquire) == 0;
  }
  /// Nobody needs the rest: for the end of the regions.
  void stop() noexcept;

  Verdict on_fault(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  enum class State : std::uint8_t { absent, loading, loaded, damaged };
  static constexpr std::uint32_t kNoBlock = ~std::uint32_t{0};

  LazyLoad(std::unique_ptr<Chain> chain, std::vector<Territory*> territories);
  Result<Done> index_pages();
  void work() noexcept;
  void load(std::uint32_t block, std::vector<std::byte>& pages, std::vector<std::byte>& scratch);
  void finish_block(std::uint32_t block, State state) noexcept;
  Verdict fill_zeroes(Territory& territory, std::size_t region, const Fault& fault) noexcept
      PAGETRAP_SIGNAL_SAFE;

  std::unique_ptr<Chain> chain_;
  std::vector<Territory*> territories_;
  std::vector<std::vector<std::uint32_t>> block_of_;     // by region and page
  std::unique_ptr<std::atomic<State>[]> states_;         // by block
  std::array<std::atomic<std::uint32_t>, 64> wishes_{};  // block + 1
  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> left_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
  std::mutex joining_;
  std::mutex error_lock_;
  Error error_;  // GUARDED_BY(error_lock_)
};

/// All of it now, with as many threads. The regions are empty.
Result<Done> load_all(const Chain& chain, const std::vector<Territory*>& territories,
                      unsigned threads);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

// The two heaps of a pair: an arena that is checkpointed, and plain memory that is fork()ed. Each
// lives in a process of its own, or fork() would have to copy the page tables of both.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "harness/clock.hpp"
#include "harness/mapping.hpp"
#include "harness/peer.hpp"
#include "harness/question.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

/// Takes an image, and forgets it.
class NullSink final : public checkpoint::Sink {
 public:
  Result<Done> write(std::span<const std::byte>) override { return Done{}; }
  Result<Done> commit() override { return Done{}; }
  void abandon() noexcept override {}
};

/// A sink whose images could be parents: they lie in a directory, each under a name of its own.
class NamedNullSink final : public checkpoint::Sink {
 public:
  NamedNullSink() : path_("/tmp/" + std::to_string(++count_)) {}
  Result<Done> write(std::span<const std::byte>) override { return Done{}; }
  Result<Done> commit() override { return Done{}; }
  void abandon() noexcept override {}
  [[nodiscard]] std::string path() const override { return path_; }

 private:
  static inline int count_ = 0;
  std::string path_;
};

/// For programs that make full images only, and touch what system calls are to write to.
/// `handlers`: that need not, since handler threads serve such calls.
inline checkpoint::CheckpointerOptions full_images(bool handlers) {
  checkpoint::CheckpointerOptions options;
  options.incremental = false;
  options.kernel_accesses = handlers;
  return options;
}

/// Gives each page two random words of its own: no page is zero, and no two are equal.
void fill(std::byte* heap, std::size_t size_bytes);

/// Writes to each page, so that what an earlier snapshot left in the page tables (marks of pages
/// not written since, pages to be made writable again) is gone for both sides alike.
void touch_all(std::byte* heap, std::size_t size_bytes);

/// An arena of which `size_bytes`, but for the arena's own first pages, are allocated and filled.
class ArenaHeap {
 public:
  ArenaHeap(std::size_t size_bytes, const checkpoint::CheckpointerOptions& options, Report& report);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] checkpoint::Checkpointer& checkpointer() noexcept { return checkpointer_; }

  /// A checkpoint of everything, not an increment.
  checkpoint::Statistics save(checkpoint::Sink& sink);
  /// The cut, and a save that gives up as soon as the first block is written.
  void cut();

  /// Of the last cut, by hooks just before and just after it (as of now_ns()).
  [[nodiscard]] double cut_begin_ns() const noexcept { return *cut_begin_; }
  [[nodiscard]] double cut_end_ns() const noexcept { return *cut_end_; }
  [[nodiscard]] double cut_ns() const noexcept { return *cut_end_ - *cut_begin_; }

 private:
  Report& report_;
  checkpoint::Checkpointer checkpointer_;
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::shared_ptr<double> cut_begin_ = std::make_shared<double>(0);
  std::shared_ptr<double> cut_end_ = std::make_shared<double>(0);
};

/// Plain memory, filled.
class PlainHeap {
 public:
  PlainHeap(std::size_t size_bytes, bool huge_pages = false);
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }

 private:
  Mapping memory_;
  std::byte* data_ = nullptr;
  std::size_t size_bytes_;
};

/// Numbers that the two processes of a pair leave for the one that reports: their medians become
/// parameters of the row.
class Notes {
 public:
  explicit Notes(std::vector<std::string> names);
  ~Notes();
  Notes(const Notes&) = delete;
  Notes& operator=(const Notes&) = delete;
  void add(std::size_t which, double value) noexcept;
  void report(Report& report) const;

 private:
  static constexpr std::size_t kMost = 510;
  struct Values {
    std::size_t count;
    std::array<double, kMost> all;
  };
  std::vector<std::string> names_;
  Values* values_;  // shared with the children
};

/// Makes the function that measures one side once, in the process where that side lives.
using MakeSide = std::function<Peer::Batch()>;

struct SidesPlan {
  std::size_t heap_bytes = 0;
  double memory_bytes = 0;  // that both sides together may need, or one if they are made anew
  bool anew = false;        // each side of each pair in a new process: only one heap at a time
  bool warm_up = true;
  int quick_pairs = 1;
  int full_pairs = 7;
};

/// Pairs of sides in turns, each side in a process of its own. For sides that take seconds: as many
/// pairs as the plan says, whatever the effort's time is.
void measure_sides(const Effort& effort, Report& report, const SidesPlan& plan,
                   const MakeSide& ours, const MakeSide& rival);

/// Skips the question if there is not so much memory, or the library cannot take a cut here.
void require_memory(Report& report, double bytes);
void require_cut(Report& report, const checkpoint::CheckpointerOptions& options);

/// The sum of the lines of a file in /proc that begin with one of `names`, in bytes; they are in
/// kB.
double sum_of_lines(const char* path, std::initializer_list<const char*> names);

/// For rows that take long.
void only_in_full_run(const Effort& effort, Report& report);

inline constexpr std::size_t kMiB = std::size_t{1} << 20;
inline constexpr std::size_t kGiB = std::size_t{1} << 30;

/// "64 MiB", "8 GiB".
std::string size_text(std::size_t bytes);

}  // namespace pagetrap::bench

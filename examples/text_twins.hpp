// The same index, saved while it is updated, in three ways: by pagetrap's cut, by fork(), and by
// instructions: a version in each leaf, compared before each write, and a copy of the leaf before
// the first write after a cut. fork() and the instructions write the postings one after the other
// (so does not an image, which is memory as it is).
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "resident.hpp"
#include "text_indexer.hpp"

namespace example {

struct TwinOptions {
  std::string directory;
  unsigned saves = 5;
  std::chrono::milliseconds between{200};
};

/// Medians of the saves, but for the slowest update.
struct TwinFigures {
  double stall_us = 0;           // no update may begin: the cut, with the locks
  double slowest_update_us = 0;  // of all that ran while something was saved
  double save_ms = 0;            // from the cut until it is on disk
  double extra_bytes = 0;        // memory that the save took
  double file_bytes = 0;
  double pages_share = 0;  // of the pages looked at, those written
  double quiet_rate = 0;   // updates per second while nothing is saved
  double saving_rate = 0;  // and while something is
  std::uint64_t heap_bytes = 0;
};

namespace twin {

using Clock = std::chrono::steady_clock;

inline double since_us(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

/// A file that is written from front to back. Throws std::system_error.
class Output {
 public:
  explicit Output(const std::string& path)
      : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
    if (file_ < 0) throw std::system_error(errno, std::generic_category(), path);
    buffer_.reserve(kBuffer);
  }
  ~Output() { ::close(file_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void put(const std::pmr::string& word, std::uint32_t number,
           const std::pmr::vector<Posting>& postings) {
    const std::array<std::uint32_t, 3> head{static_cast<std::uint32_t>(word.size()), number,
                                            static_cast<std::uint32_t>(postings.size())};
    put(head.data(), sizeof head);
    put(word.data(), word.size());
    put(postings.data(), postings.size() * sizeof(Posting));
  }
  /// Bytes in all, once they are on disk.
  std::uint64_t finish() {
    flush();
    if (::fsync(file_) != 0) throw std::system_error(errno, std::generic_category(), "fsync");
    return bytes_;
  }
  static constexpr std::size_t kBuffer = std::size_t{1} << 20;

 private:
  void put(const void* from, std::size_t length) {
    if (buffer_.size() + length > kBuffer) flush();
    const auto* const bytes = static_cast<const char*>(from);
    buffer_.insert(buffer_.end(), bytes, bytes + length);
  }
  void flush() {
    for (std::size_t done = 0; done < buffer_.size();) {
      const ssize_t count = ::write(file_, buffer_.data() + done, buffer_.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw std::system_error(errno, std::generic_category(), "write");
      done += static_cast<std::size_t>(count);
    }
    bytes_ += buffer_.size();
    buffer_.clear();
  }
  int file_;
  std::vector<char> buffer_;
  std::uint64_t bytes_ = 0;
};

/// What one save did.
struct Saved {
  double stall_us = 0;
  double save_us = 0;
  double extra_bytes = 0;
  double file_bytes = 0;
  double pages_share = 1;
};

/// Copy on write without any help of the hardware.
class CopyOnWrite {
 public:
  /// Called under the shard's lock.
  void before_write(std::size_t shard, const std::pmr::string& word, std::uint32_t number,
                    Leaf& leaf) {
    const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed);
    if (leaf.epoch == epoch) return;
    leaf.epoch = epoch;
    if (leaf.postings.empty() || !saving_[shard]) return;
    copied_.fetch_add(leaf.postings.size() * sizeof(Posting), std::memory_order_relaxed);
    copies_[shard].push_back({&word, number, leaf.postings});
  }

  Saved save(TextIndex& index, IndexLocks& locks, const std::string& path) {
    const auto begin = Clock::now();
    locks.gate.close();
    copied_.store(0);
    saving_.fill(true);
    const std::uint32_t epoch = epoch_.fetch_add(1) + 1;
    locks.gate.open();
    Saved saved;
    saved.stall_us = since_us(begin);
    Output output(path);
    for (std::size_t i = 0; i < kShards; ++i) save_shard(index, locks, i, epoch, output);
    saved.file_bytes = static_cast<double>(output.finish());
    saved.save_us = since_us(begin) - saved.stall_us;
    saved.extra_bytes = static_cast<double>(copied_.load() + Output::kBuffer);
    return saved;
  }

 private:
  struct Copy {
    const std::pmr::string* word;  // words are never removed
    std::uint32_t number;
    std::pmr::vector<Posting> postings;
  };

  void save_shard(TextIndex& index, IndexLocks& locks, std::size_t number, std::uint32_t epoch,
                  Output& output) {
    const std::lock_guard lock(locks.shards[number]);
    for (auto& [word, leaves] : index.shards[number]) {
      for (auto& [part, leaf] : leaves) {
        if (leaf.epoch == epoch) continue;  // changed, or new, since the cut
        leaf.epoch = epoch;
        output.put(word, part, leaf.postings);
      }
    }
    for (const Copy& copy : copies_[number]) output.put(*copy.word, copy.number, copy.postings);
    copies_[number].clear();
    saving_[number] = false;
  }

  std::atomic<std::uint32_t> epoch_{1};
  std::atomic<std::uint64_t> copied_{0};
  std::array<bool, kShards> saving_{};  // each under its shard's lock, or with the gate closed
  std::array<std::deque<Copy>, kShards> copies_;
};

inline void save_in_child(const TextIndex& index, const std::string& path, double& extra,
                          double& bytes) {
  Output output(path);
  for (const Shard& shard : index.shards)
    for (const auto& [word, leaves] : shard)
      for (const auto& [number, leaf] : leaves) output.put(word, number, leaf.postings);
  bytes = static_cast<double>(output.finish());
  // What is the child's alone: pages that one of the two has written since, and page tables.
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string line; std::getline(rollup, line);)
    if (line.starts_with("Private_")) extra += std::stod(line.substr(line.find(':') + 1)) * 1024;
  extra += static_cast<double>(status_bytes("VmPTE").value_or(0));
}

inline Saved save_by_fork(TextIndex& index, IndexLocks& locks, const std::string& path) {
  Saved saved;
  std::array<int, 2> answers{};
  if (::pipe2(answers.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  const auto begin = Clock::now();
  locks.gate.close();
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      std::array<double, 2> answer{};
      save_in_child(index, path, answer[0], answer[1]);
      if (::write(answers[1], answer.data(), sizeof answer) == sizeof answer) status = 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    ::_exit(status);
  }
  locks.gate.open();
  saved.stall_us = since_us(begin);
  ::close(answers[1]);
  std::array<double, 2> answer{};
  const bool told = child > 0 && ::read(answers[0], answer.data(), sizeof answer) == sizeof answer;
  ::close(answers[0]);
  if (child > 0) ::waitpid(child, nullptr, 0);
  if (!told) throw std::runtime_error("the forked child did not save");
  saved.save_us = since_us(begin) - saved.stall_us;
  saved.extra_bytes = answer[0];
  saved.file_bytes = answer[1];
  return saved;
}

/// Threads that edit as fast as they can, and what they noticed.
template <class Barrier>
class Editors {
 public:
  Editors(TextIndex& index, IndexLocks& locks, const Corpus& corpus, Barrier& barrier) {
    for (std::size_t i = 0; i < kIndexers; ++i) {
      threads_.emplace_back([this, &index, &locks, &corpus, &barrier, i] {
        Updater<Barrier> updater(index, locks, corpus, barrier);
        Plan plan(i, corpus.documents().size());
        while (!stop_.load(std::memory_order_relaxed)) {
          const Update update = plan.next(index.versions);
          if (plan.editing() && !built_[i].exchange(true)) edit_from_here_.fetch_add(1);
          const auto begin = Clock::now();
          updater.apply(i, update);
          const auto took = static_cast<std::uint64_t>(since_us(begin));
          updates_.fetch_add(1, std::memory_order_relaxed);
          for (auto known = slowest_.load(); took > known;)
            if (slowest_.compare_exchange_weak(known, took)) break;
        }
      });
    }
  }
  ~Editors() {
    stop_.store(true);
    for (auto& thread : threads_) thread.join();
  }
  Editors(const Editors&) = delete;
  Editors& operator=(const Editors&) = delete;

  void wait_until_built() const {
    while (edit_from_here_.load() < kIndexers)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  [[nodiscard]] std::uint64_t updates() const { return updates_.load(); }
  /// Since the last call, in microseconds.
  double slowest() { return static_cast<double>(slowest_.exchange(0)); }

 private:
  std::atomic<bool> stop_{false};
  std::array<std::atomic<bool>, kIndexers> built_{};
  std::atomic<unsigned> edit_from_here_{0};
  std::atomic<std::uint64_t> updates_{0};
  std::atomic<std::uint64_t> slowest_{0};
  std::vector<std::thread> threads_;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

/// Builds the index, then saves it some times while it is edited.
template <class Barrier>
TwinFigures measure(TextIndex& index, IndexLocks& locks, const Corpus& corpus, Barrier& barrier,
                    const TwinOptions& options, const std::function<Saved()>& save) {
  TwinFigures figures;
  Editors<Barrier> editors(index, locks, corpus, barrier);
  editors.wait_until_built();
  std::vector<Saved> all;
  std::vector<double> quiet;
  std::vector<double> busy;
  for (unsigned i = 0; i < options.saves; ++i) {
    const auto resting = Clock::now();
    std::uint64_t before = editors.updates();
    std::this_thread::sleep_for(options.between);
    quiet.push_back(static_cast<double>(editors.updates() - before) / since_us(resting) * 1e6);
    static_cast<void>(editors.slowest());
    const auto saving = Clock::now();
    before = editors.updates();
    all.push_back(save());
    busy.push_back(static_cast<double>(editors.updates() - before) / since_us(saving) * 1e6);
    figures.slowest_update_us = std::max(figures.slowest_update_us, editors.slowest());
  }
  const auto middle = [&](double Saved::*member) {
    std::vector<double> values;
    for (const Saved& one : all) values.push_back(one.*member);
    return median(values);
  };
  figures.stall_us = middle(&Saved::stall_us);
  figures.save_ms = middle(&Saved::save_us) / 1e3;
  figures.extra_bytes = middle(&Saved::extra_bytes);
  figures.file_bytes = middle(&Saved::file_bytes);
  figures.pages_share = middle(&Saved::pages_share);
  figures.quiet_rate = median(quiet);
  figures.saving_rate = median(busy);
  return figures;
}

}  // namespace twin

/// In an arena. With `incremental` the first, full image is not counted.
inline TwinFigures measure_pagetrap(const Corpus& corpus, const TwinOptions& options,
                                    bool incremental) {
  auto checkpointer = Checkpointer::create(saving_options(incremental)).value();
  auto& arena = *checkpointer.arena(kArena, std::size_t{4} << 30).value();
  auto& index =
      *arena.make<TextIndex>(arena.resource(), corpus.documents().size(), corpus.fingerprint());
  IndexLocks locks;
  twin::Clock::time_point closing;
  double stall_us = 0;
  checkpointer.set_hooks({[&] {
                            closing = twin::Clock::now();
                            locks.gate.close();
                          },
                          [&] {
                            locks.gate.open();
                            stall_us = twin::since_us(closing);
                          },
                          {}});
  unsigned number = 0;
  const auto save = [&] {
    const std::string path = options.directory + "/twin." + std::to_string(number++);
    const auto sink = pagetrap::checkpoint::file_sink(path).value();
    const Statistics done = checkpointer.checkpoint(*sink).value();
    const double scanned = static_cast<double>(std::max<std::uint64_t>(1, done.pages_scanned));
    return twin::Saved{stall_us, done.save_us, static_cast<double>(done.peak_extra_bytes),
                       static_cast<double>(done.bytes),
                       1 - static_cast<double>(done.pages_skipped_parent) / scanned};
  };
  NoBarrier none;
  bool first = incremental;
  auto figures = twin::measure<NoBarrier>(index, locks, corpus, none, options, [&] {
    if (std::exchange(first, false)) static_cast<void>(save());
    return save();
  });
  figures.heap_bytes = arena.used_bytes();
  return figures;
}

inline TwinFigures measure_fork(const Corpus& corpus, const TwinOptions& options) {
  TextIndex index(std::pmr::new_delete_resource(), corpus.documents().size(), 0);
  IndexLocks locks;
  NoBarrier none;
  return twin::measure<NoBarrier>(index, locks, corpus, none, options, [&] {
    return twin::save_by_fork(index, locks, options.directory + "/twin");
  });
}

inline TwinFigures measure_instructions(const Corpus& corpus, const TwinOptions& options) {
  TextIndex index(std::pmr::new_delete_resource(), corpus.documents().size(), 0);
  IndexLocks locks;
  const auto barrier = std::make_unique<twin::CopyOnWrite>();
  return twin::measure<twin::CopyOnWrite>(index, locks, corpus, *barrier, options, [&] {
    return barrier->save(index, locks, options.directory + "/twin");
  });
}

}  // namespace example

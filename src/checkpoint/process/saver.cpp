// ProcessSaver: one checkpoint after the other.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>

#include <pagetrap/checkpoint/process.hpp>

#include "checkpoint/generations.hpp"
#include "checkpoint/new_image.hpp"
#include "checkpoint/process/census.hpp"
#include "checkpoint/process/critical_section.hpp"
#include "checkpoint/process/inside.hpp"
#include "checkpoint/process/memory_cut.hpp"
#include "checkpoint/process/save_image.hpp"
#include "checkpoint/process/tracking.hpp"
#include "checkpoint/process/waits.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

using namespace process;

namespace {

// What a stop costs: a page copied, or a fork of all the pages that there are. Measured; both are
// only compared with each other.
constexpr double kCopyNs = 500;
constexpr double kForkNs = 200'000;
constexpr double kForkPageNs = 100;
constexpr std::uint64_t kMostCopied = std::uint64_t{64} << 20;
constexpr std::uint64_t kMostCopiedAhead = std::uint64_t{256} << 20;

/// A frozen copy, which ends when nobody needs it any more.
class FrozenCopy {
 public:
  explicit FrozenCopy(pid_t id) noexcept : id_(id) {}
  FrozenCopy(const FrozenCopy&) = delete;
  FrozenCopy& operator=(const FrozenCopy&) = delete;
  ~FrozenCopy() {
    if (id_ == 0) return;
    ::kill(id_, SIGKILL);
    // Its parent is the process's: if that is not us, it is for somebody else to wait.
    while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

 private:
  pid_t id_;
};

}  // namespace

struct ProcessSaver::State {
  pid_t process = 0;
  ProcessSaverOptions options;
  sys::Descriptor pidfd;
  std::vector<std::string> refusals;
  Area area;
  std::optional<Tracking> tracking;
  bool tracking_was_tried = false;
  Waits waits;
  Runs own_of_files;  // pages of mapped files that were the process's own at the last cut
  CopiedPages spare;  // memory for the next cut
  CopiedPages spare_ahead;
  Runs saved;  // pages that the chain of the last image has, where it has not zeroes
  ImageId last{};
  std::uint64_t generation = 0;
  unsigned since_full = 0;

  struct Taken {
    AllMappingFlags flags;
    MappedFiles files;
    Record record;
    ObjectContents contents;
    MemoryCut memory;
  };
  Result<ProcessStatistics> checkpoint(const SaveOptions& save, std::span<const CutWord> words);
  Result<Done> remember_words(std::span<CutWord> words);
  Result<Done> write_words(std::span<const CutWord> words, std::uint32_t CutWord::*which);
  Result<Done> prepare(Taken& taken, ProcessStatistics& statistics);
  Result<Done> make_ready(StoppedProcess& stopped);
  void leave(StoppedProcess& stopped);
  bool area_is_there(const std::vector<MapLine>& lines) const;
  Error refused(const Refusals& found);
  Error first_has_ended();
  Result<Done> cut(StoppedProcess& stopped, bool full, Taken& taken, ProcessStatistics& statistics);
  Result<Done> cut_memory(StoppedProcess& stopped, const std::vector<MapLine>& lines, bool full,
                          Taken& taken, ProcessStatistics& statistics);
  /// `present` is what is there of `looked_at`.
  Result<Done> choose_pages(bool full, Taken& taken, Runs present, const Runs& looked_at,
                            const Runs& changed);
};

// exec(2) takes everything with it that was put into the process.
bool ProcessSaver::State::area_is_there(const std::vector<MapLine>& lines) const {
  return area.valid() && std::any_of(lines.begin(), lines.end(), [&](const MapLine& line) {
           return line.start == area.base() && line.end == area.base() + Area::kCodeBytes &&
                  line.protection == (PROT_READ | PROT_EXEC) && line.inode == 0;
         });
}

// What has to be known, or changed, before threads run errands.
Result<Done> ProcessSaver::State::make_ready(StoppedProcess& stopped) {
  // A breakpoint under SIG_IGN would cost it that.
  if (ignores_traps(process)) {
    Refusals found;
    found.add("SIGTRAP is ignored");
    return refused(found);
  }
  for (Tracee& tracee : stopped.threads()) {
    waits.restart(process, tracee);
    if (auto left = leave_critical_section(process, tracee); !left) return left;
  }
  return Done{};
}

void ProcessSaver::State::leave(StoppedProcess& stopped) {
  for (const Tracee& tracee : stopped.threads()) waits.leave(process, tracee);
  stopped.release();
}

// Ahead of the cut, while the process runs; but for the first time, which needs a stop of its own.
Result<Done> ProcessSaver::State::prepare(Taken& taken, ProcessStatistics& statistics) {
  const std::uint64_t started = sys::monotonic_nanoseconds();
  const auto threads = numbers_in(proc_path(process, "task"));
  if (!threads) return Error{"a checkpoint of a process", ESRCH};
  Refusals found;
  if (threads->size() > 1 && has_ended(process)) return first_has_ended();
  auto flags = mapping_flags(process);
  if (!flags) {  // its folder in /proc goes with it
    const int error = flags.error().number;
    return Error{"a checkpoint of a process", error == ENOENT ? ESRCH : error};
  }
  taken.flags = std::move(*flags);
  if (auto looked = census_ahead(process, taken.record, found); !looked) return looked;
  if (!found.empty()) return refused(found);
  auto text = read_whole(proc_path(process, "maps"));
  if (!text) return Error{"a checkpoint of a process", ESRCH};
  const std::vector<MapLine> lines = parse_maps(*text);
  if (lines.empty()) return Error{"a checkpoint of a process", ESRCH};
  if (!area_is_there(lines) || area.size() < Area::size_for(threads->size())) {
    area = {};
    tracking.reset();
    tracking_was_tried = false;
    last = {};
  }
  if (!tracking_was_tried) {
    std::string culprit;
    auto stopped = StoppedProcess::stop(process, options.patience, culprit);
    if (!stopped) {
      if (stopped.error().number == ENOTSUP && has_ended(process)) return first_has_ended();
      if (!culprit.empty()) refusals.push_back(culprit);
      return stopped.error();
    }
    if (auto ready = make_ready(*stopped); !ready) return ready;
    if (!area.valid()) {
      auto mapped = Area::map_in(*stopped);
      if (!mapped) return mapped.error();
      area = *mapped;
    }
    tracking_was_tried = true;
    if (auto opened = userfaultfd_of(*stopped, area, pidfd.get()); opened) {
      // An older kernel, or a filter: all images are full ones then.
      if (auto begun = Tracking::begin(process, std::move(*opened)); begun)
        tracking.emplace(std::move(*begun));
    }
    leave(*stopped);
  }
  taken.files.look_ahead(lines);
  if (tracking)
    if (auto looked = tracking->look_ahead(lines); !looked) return looked;
  // Most of what is to be copied is copied here, and not in the stop.
  if (tracking && last != ImageId{} && size_bytes(tracking->ahead()) <= kMostCopiedAhead) {
    const Runs before = unite(own_of_files, tracking->ahead());
    auto copied = copy_ahead(process, lines, tracking->ahead(), before, taken.memory.ahead);
    if (!copied) return copied;
    // All of it may be written again until the stop.
    auto room = taken.memory.copied.make_room(std::min(size_bytes(tracking->ahead()), kMostCopied));
    if (!room) return room;
  }
  statistics.protecting_us = since_us(started);
  return Done{};
}

Result<Done> ProcessSaver::State::choose_pages(bool full, Taken& taken, Runs present,
                                               const Runs& looked_at, const Runs& changed) {
  own_of_files.clear();
  for (Mapping& mapping : taken.record.mappings) {
    if (mapping.kind != MappingKind::file) continue;
    mapping.own = intersect(present, {{mapping.start, mapping.end}});
    own_of_files.insert(own_of_files.end(), mapping.own.begin(), mapping.own.end());
  }
  MemoryCut& memory = taken.memory;
  memory.wanted = full ? present : intersect(present, changed);
  if (full) {
    saved = std::move(present);
    return Done{};
  }
  Runs anonymous;  // what is absent in a file's mapping is the file's, and not zero
  for (const Mapping& mapping : taken.record.mappings)
    if (mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::stack)
      anonymous.push_back({mapping.start, mapping.end});
  memory.zero =
      subtract(intersect(intersect(saved, tidy(std::move(anonymous))), looked_at), present);
  saved = unite(subtract(saved, memory.zero), present);
  return Done{};
}

Result<Done> ProcessSaver::State::cut_memory(StoppedProcess& stopped,
                                             const std::vector<MapLine>& lines, bool full,
                                             Taken& taken, ProcessStatistics& statistics) {
  Runs changed;  // since the last image, or nobody knows
  Runs fresh;    // of these: since pages were copied ahead
  const Runs all = private_runs(taken.record.mappings);
  if (tracking) {
    auto looked = tracking->look(lines);
    if (!looked) return looked.error();
    const Runs unknown = subtract(all, looked->watched);
    changed = unite(looked->written, unknown);
    fresh = unite(looked->fresh, unknown);
  }
  if (!tracking || full) changed = all;
  changed = intersect(changed, all);
  // Of files as a rule little is the process's own.
  const Runs files = file_runs(taken.record.mappings);
  MemoryCut& memory = taken.memory;
  const Runs left = subtract(changed, subtract(memory.ahead.runs(), fresh));
  const std::uint64_t to_copy =
      size_bytes(subtract(left, files)) +
      std::min(size_bytes(intersect(left, files)), size_bytes(own_of_files));
  const double copying = static_cast<double>(to_copy >> page_shift()) * kCopyNs;
  const double forking =
      kForkNs + static_cast<double>(size_bytes(saved) >> page_shift()) * kForkPageNs;
  if (!full && copying < forking && to_copy <= kMostCopied) {
    // Every page that may be another than it was, and what has gone without a trace.
    const auto gone = blocks_without_table(process, subtract(intersect(saved, all), changed));
    if (!gone) return gone.error();
    const Runs looked_at = unite(changed, *gone);
    auto present = own_pages(process, taken.record.mappings,
                             unite(own_of_files, intersect(changed, files)), looked_at);
    if (!present) return present.error();
    changed = unite(changed, present->doubtful);
    auto chosen = choose_pages(full, taken, std::move(present->own), looked_at, changed);
    if (!chosen) return chosen;
    const Runs good = subtract(subtract(memory.ahead.runs(), fresh), present->doubtful);
    const Runs now = subtract(memory.wanted, good);
    if (auto copied = memory.copied.add(process, now); !copied) return copied;
    statistics.pages_copied = size_bytes(now) >> page_shift();
    return Done{};
  }
  // What a child does not get.
  Runs apart;
  constexpr std::uint64_t kNotForked = 4 | 8;  // MADV_DONTFORK, MADV_WIPEONFORK
  for (const Mapping& mapping : taken.record.mappings)
    if ((mapping.advice & kNotForked) != 0) apart.push_back({mapping.start, mapping.end});
  if (!apart.empty()) {
    auto present = own_pages(process, taken.record.mappings, unite(own_of_files, changed), all);
    if (!present) return present.error();
    const Runs wanted = intersect(present->own, tidy(std::move(apart)));
    if (auto copied = memory.copied.add(process, wanted); !copied) return copied;
    statistics.pages_copied = size_bytes(wanted) >> page_shift();
  }
  auto copy = freeze_copy(stopped, area);
  if (!copy) return copy.error();
  memory.copy = *copy;
  memory.wanted = std::move(changed);  // so far; which of it is there is found out in the copy
  statistics.forked = true;
  return Done{};
}

// RACE a process that ends as a whole looks so too, until its other threads have gone.
Error ProcessSaver::State::first_has_ended() {
  constexpr unsigned kTurns = 100;
  const timespec turn{0, 5'000'000};
  for (unsigned i = 0; i < kTurns; ++i) {
    const auto threads = numbers_in(proc_path(process, "task"));
    if (!threads || threads->size() <= 1) return Error{"a checkpoint of a process", ESRCH};
    ::nanosleep(&turn, nullptr);
  }
  Refusals found;
  found.add("thread " + std::to_string(process) + ": the first thread has ended");
  return refused(found);
}

Error ProcessSaver::State::refused(const Refusals& found) {
  refusals = found.lines();
  return Error{"a checkpoint of a process", ENOTSUP, {}, "it has something that cannot be saved"};
}

Result<Done> ProcessSaver::State::cut(StoppedProcess& stopped, bool full, Taken& taken,
                                      ProcessStatistics& statistics) {
  if (auto ready = make_ready(stopped); !ready) return ready;
  const auto text = read_whole(proc_path(process, "maps"));
  if (!text) return text.error();
  const std::vector<MapLine> lines = parse_maps(*text);
  if (!area_is_there(lines))
    return Error{"a cut", EAGAIN, {}, "the process has become another program meanwhile"};
  Refusals found;
  Record& record = taken.record;
  if (auto done = census_of_process(stopped, record, found); !done) return done;
  if (auto done = census_of_memory(lines, taken.flags, taken.files, area.range(), record,
                                   taken.contents, found);
      !done)
    return done;
  if (auto done = census_of_files(process, pidfd.get(), record, taken.contents, found); !done)
    return done;
  if (!found.empty()) return refused(found);
  if (auto done = ask_inside(stopped, area, record); !done) return done;
  census_of_signals(stopped, record);
  for (std::size_t i = 0; i < record.threads.size(); ++i) {
    const Registers registers = waits.for_image(stopped.threads()[i]);
    const auto bytes = std::as_bytes(std::span(&registers, 1));
    record.threads[i].registers.assign(bytes.begin(), bytes.end());
  }
  for (const Mapping& mapping : record.mappings) {
    if (mapping.kind != MappingKind::vdso) continue;
    record.vdso.resize(mapping.end - mapping.start);
    if (auto read = read_memory(process, mapping.start, record.vdso); !read) return read;
  }
  return cut_memory(stopped, lines, full, taken, statistics);
}

// `after` becomes what is there.
Result<Done> ProcessSaver::State::remember_words(std::span<CutWord> words) {
  for (CutWord& word : words) {
    auto read =
        read_memory(process, word.address, std::as_writable_bytes(std::span(&word.after, 1)));
    if (!read) return read;
  }
  return Done{};
}

Result<Done> ProcessSaver::State::write_words(std::span<const CutWord> words,
                                              std::uint32_t CutWord::*which) {
  for (const CutWord& word : words) {
    const std::uint32_t value = word.*which;
    auto written = write_memory(process, word.address, std::as_bytes(std::span(&value, 1)));
    if (!written) return written;
  }
  return Done{};
}

Result<ProcessStatistics> ProcessSaver::State::checkpoint(const SaveOptions& save,
                                                          std::span<const CutWord> words) {
  sys::ask_for_short_turns();  // the process stands still while this thread waits for a processor
  refusals.clear();
  ProcessStatistics statistics;
  Taken taken;
  taken.memory.copied = std::move(spare);
  taken.memory.copied.clear();
  taken.memory.ahead = std::move(spare_ahead);
  taken.memory.ahead.clear();
  if (auto prepared = prepare(taken, statistics); !prepared) return prepared.error();
  const bool full =
      save.full || !tracking || last == ImageId{} || since_full + 1 >= options.full_every;
  ImageInfo info;
  const auto id = random_id();
  if (!id) return id.error();
  info.id = *id;
  if (!full) info.parent = last;
  // Whatever becomes of this image: what was noted of writes since the last one is used up.
  last = {};
  {
    const std::uint64_t started = sys::monotonic_nanoseconds();
    std::string culprit;
    auto stopped = StoppedProcess::stop(process, options.patience, culprit);
    if (!stopped) {
      if (stopped.error().number == ENOTSUP && has_ended(process)) return first_has_ended();
      if (!culprit.empty()) refusals.push_back(culprit);
      return stopped.error();
    }
    statistics.freezing_us = since_us(started);
    statistics.threads = static_cast<unsigned>(stopped->threads().size());
    info.created_ns = now_ns();
    std::vector<CutWord> changed(words.begin(), words.end());
    auto done = remember_words(changed);
    if (done) done = write_words(words, &CutWord::in_image);
    if (done) done = cut(*stopped, full, taken, statistics);
    // What is not in an image has not happened.
    const auto undone = write_words(done ? words : changed, &CutWord::after);
    if (done && !undone) done = undone;
    leave(*stopped);
    statistics.frozen_us = since_us(started);
    if (!done) return done.error();
  }
  const std::uint64_t started = sys::monotonic_nanoseconds();
  const FrozenCopy copy(taken.memory.copy);
  if (taken.memory.copy != 0) {
    const Runs all = private_runs(taken.record.mappings);
    auto present = own_pages(taken.memory.copy, taken.record.mappings, {}, all);
    if (!present) return present.error();
    Runs everything = unite(present->own, taken.memory.copied.runs());
    const Runs changed = std::move(taken.memory.wanted);
    auto chosen = choose_pages(full, taken, std::move(everything), all, changed);
    if (!chosen) return chosen.error();
  }
  taken.record.every_ms = static_cast<std::uint64_t>(options.every.count());
  taken.record.keep = options.keep;
  taken.record.full_every = options.full_every;
  taken.record.socket = options.socket;
  info.generation = generation + 1;
  info.compression = options.compression;
  const std::string path = generation_path(options.directory, options.name, info.generation);
  auto written = save_image(path, info, taken.record, taken.contents, taken.memory, options.threads,
                            save.progress);
  if (!written) return written.error();
  spare = std::move(taken.memory.copied);
  spare_ahead = std::move(taken.memory.ahead);
  generation = info.generation;
  last = info.id;
  since_full = full ? 0 : since_full + 1;
  statistics.id = info.id;
  statistics.parent = info.parent;
  statistics.generation = generation;
  statistics.path = path;
  statistics.tracked = tracking.has_value();
  statistics.save_us = since_us(started);
  statistics.pages_scanned = size_bytes(private_runs(taken.record.mappings)) >> page_shift();
  statistics.pages_written = written->pages_written;
  statistics.pages_zero = written->pages_zero;
  statistics.pages_duplicate = written->pages_duplicate;
  statistics.pages_skipped_parent =
      full ? 0 : size_bytes(subtract(saved, taken.memory.wanted)) >> page_shift();
  statistics.bytes = written->bytes;
  if (auto pruned = prune(options.directory, options.name, options.keep); !pruned)
    return pruned.error();
  return statistics;
}

ProcessSaver::ProcessSaver(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
ProcessSaver::ProcessSaver(ProcessSaver&& other) noexcept = default;
ProcessSaver& ProcessSaver::operator=(ProcessSaver&& other) noexcept = default;
ProcessSaver::~ProcessSaver() = default;

Result<ProcessSaver> ProcessSaver::attach(pid_t id, const ProcessSaverOptions& options) {
  auto state = std::make_unique<State>();
  state->process = id;
  state->options = options;
  state->pidfd = sys::Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, id, 0)));
  if (!state->pidfd.valid()) return Error{"pidfd_open", errno};
  std::error_code error;
  std::filesystem::create_directories(options.directory, error);
  if (error) return Error{"make a directory for checkpoints", error.value()};
  const auto known = generations(options.directory, options.name);
  if (!known) return known.error();
  if (!known->empty()) state->generation = known->front().number;
  return ProcessSaver(std::move(state));
}

Result<ProcessStatistics> ProcessSaver::checkpoint(const SaveOptions& options,
                                                   std::span<const CutWord> words) try {
  return state_->checkpoint(options, words);
} catch (const std::bad_alloc&) {
  return Error{"a checkpoint of a process", ENOMEM};
}

Result<std::uint32_t> ProcessSaver::read_word(std::uint64_t address) const {
  std::uint32_t value = 0;
  auto read = read_memory(state_->process, address, std::as_writable_bytes(std::span(&value, 1)));
  if (!read) return read.error();
  return value;
}

Result<Done> ProcessSaver::write_word(std::uint64_t address, std::uint32_t value) const {
  return write_memory(state_->process, address, std::as_bytes(std::span(&value, 1)));
}

const std::vector<std::string>& ProcessSaver::refusals() const noexcept { return state_->refusals; }

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

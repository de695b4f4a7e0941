#include "checkpoint/checkpointer.hpp"

#include "checkpoint/new_image.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <exception>

#include "checkpoint/generations.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

// Far from where the kernel puts programs, their heaps, and libraries; arenas are the same here in
// every run. 1 GiB is what one upper page-table entry maps: lift wants that alignment.
constexpr std::uintptr_t kFirstAddress = std::uintptr_t{0x2000} << 32;
constexpr std::uintptr_t kAlignment = std::uintptr_t{1} << 30;
constexpr std::size_t kProtectedUnit = std::size_t{64} << 10;  // 10 us to copy and open
constexpr std::size_t kMovedUnit = std::size_t{256} << 10;  // two mappings while it is back alone
constexpr std::size_t kLargeUnit = std::size_t{2} << 20;
constexpr std::size_t kLargeHeap = std::size_t{4} << 30;
constexpr std::size_t kLeastExtra = std::size_t{16} << 20;

// Calls what is left when a scope ends.
class AtEnd {
 public:
  explicit AtEnd(std::function<void()> call) : call_(std::move(call)) {}
  ~AtEnd() {
    if (call_) call_();
  }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  std::function<void()> call_;
};

}  // namespace

const char* name(Cut cut) noexcept {
  switch (cut) {
    case Cut::automatic:
      return "automatic";
    case Cut::lift:
      return "lift";
    case Cut::protection_key:
      return "protection-key";
    case Cut::write_protect:
      return "write-protect";
  }
  return "?";
}

// --- memory

Result<Arena*> CheckpointerState::make_arena(const std::string& arena_name, std::size_t capacity,
                                             std::uintptr_t at) {
  if (arena_name.empty() || arena_name.size() > 255)
    return Error{"Checkpointer::arena", EINVAL, {}, "a name has 1 to 255 characters"};
  for (const auto& territory : territories)
    if (territory->name() == arena_name)
      return Error{"Checkpointer::arena", EEXIST, {}, "there is a region with this name"};
  const std::size_t size = (capacity + kAlignment - 1) & ~(kAlignment - 1);
  if (capacity == 0 || size < capacity)
    return Error{"Checkpointer::arena", EINVAL, {}, "the capacity makes no sense"};
  RegionOptions wanted = plan.region;
  wanted.name = arena_name.size() <= 64 ? arena_name.c_str() : "arena";
  const std::uintptr_t address = at != 0 ? at : next_address;
  wanted.address = reinterpret_cast<void*>(address);
  wanted.alignment = kAlignment;
  auto made = Region::create(size, wanted);
  if (!made) return made.error();
  if (const auto ready = handle_fork(); !ready) return ready.error();
  const std::size_t moved_unit = size > kLargeHeap ? kLargeUnit : kMovedUnit;
  const bool protects =
      plan.region.faults.has(FaultKind::write_protected) && cut != Cut::protection_key;
  Territory::Shape shape{cut, plan.keeps_protected, protects ? kProtectedUnit : moved_unit};
  if (options.huge_pages) shape.unit_bytes = kLargeUnit;
  auto territory = Territory::create(arena_name, std::move(*made), shape);
  if (!territory) return territory.error();
  auto* const state = new ArenaState(**territory);
  auto arena = std::unique_ptr<Arena>(new Arena(arena_name, state));
  if (at == 0) state->format();
  // A gap between two: what runs out of one does not run into the next.
  next_address = std::max(next_address, (address + size + 2 * kAlignment - 1) & ~(kAlignment - 1));
  const auto no_fork = fork_waits();
  territories.push_back(std::move(*territory));
  arena_of.push_back(state);
  arenas.push_back(std::move(arena));
  return arenas.back().get();
}

Result<Done> CheckpointerState::add(const std::string& region_name, PageRange range) {
  for (const auto& territory : territories)
    if (territory->name() == region_name)
      return Error{"Checkpointer::add_region", EEXIST, range, "there is a region with this name"};
  const auto added = plan_for(Cut::write_protect, options);
  if (!added) return added.error();
  auto adopted = Region::adopt(range, added->region);
  if (!adopted) return adopted.error();
  if (const auto ready = handle_fork(); !ready) return ready.error();
  auto territory = Territory::create(region_name, std::move(*adopted),
                                     {Cut::write_protect, added->keeps_protected, kProtectedUnit});
  if (!territory) return territory.error();
  const auto no_fork = fork_waits();
  territories.push_back(std::move(*territory));
  arena_of.push_back(nullptr);
  return Done{};
}

void CheckpointerState::end_lazy() noexcept {
  std::unique_ptr<LazyLoad> ended;
  {
    const auto no_fork = fork_waits();
    ended = std::move(lazy);
  }
}

// --- saving

// Of an arena what it has handed out. In whole units.
std::size_t CheckpointerState::length_of(std::size_t part) const {
  Territory& territory = *territories[part];
  const std::size_t size = territory.region().size_bytes();
  if (arena_of[part] == nullptr) return size;
  const std::size_t grain = territory.unit_bytes();
  return std::min(size, (arena_of[part]->used() + grain - 1) & ~(grain - 1));
}

std::vector<Save::Part> CheckpointerState::parts(bool incremental) const {
  std::vector<Save::Part> made;
  for (std::size_t i = 0; i < territories.size(); ++i) {
    Territory& territory = *territories[i];
    made.push_back(
        {&territory, length_of(i), incremental && territory.tracks_writes() && i < parts_of_last});
  }
  return made;
}

std::vector<ImageRegion> CheckpointerState::image_regions() const {
  std::vector<ImageRegion> made;
  for (std::size_t i = 0; i < territories.size(); ++i) {
    const PageRange range = territories[i]->region().range();
    ImageRegion each;
    each.name = territories[i]->name();
    each.base = reinterpret_cast<std::uintptr_t>(range.base);
    each.size_bytes = range.size_bytes();
    if (arena_of[i] != nullptr)
      each.root = reinterpret_cast<std::uintptr_t>(
          std::atomic_ref<void*>(arena_of[i]->header().root).load());
    made.push_back(std::move(each));
  }
  return made;
}

// Parents are looked for beside an increment, and may not be replaced by it.
bool CheckpointerState::can_follow(const std::filesystem::path& file) const {
  if (last == ImageId{} || file.empty() || last_files.empty() || last_files.back().empty())
    return false;
  std::error_code error;
  if (!std::filesystem::equivalent(std::filesystem::absolute(file).parent_path(),
                                   std::filesystem::absolute(last_files.back()).parent_path(),
                                   error))
    return false;
  return std::none_of(
      last_files.begin(), last_files.end(),
      [&](const std::filesystem::path& parent) { return parent.filename() == file.filename(); });
}

Result<Done> CheckpointerState::save_locked(Sink& sink, const SaveOptions& save_options,
                                            Statistics& statistics,
                                            const std::function<void()>& at_cut) {
  const AtEnd tell(at_cut);
  if (lazy != nullptr && !lazy->complete())
    return Error{"checkpoint", EBUSY, {}, "finish_restore() first"};
  end_lazy();
  const std::filesystem::path file = sink.path();
  const bool incremental = options.incremental && !save_options.full && can_follow(file) &&
                           std::any_of(territories.begin(), territories.end(),
                                       [](const auto& each) { return each->tracks_writes(); });
  const auto id = random_id();
  if (!id) return id.error();
  ImageInfo info;
  info.page_size = static_cast<std::uint32_t>(page_size());
  info.id = statistics.id = *id;
  info.parent = statistics.parent = incremental ? last : ImageId{};
  info.generation = statistics.generation = generation + 1;
  info.compression = options.compression;
  statistics.cut = cut;

  std::size_t heap = 0;
  for (const Save::Part& part : parts(incremental)) heap += part.length;
  Save::Settings settings;
  settings.threads = options.threads != 0 ? options.threads
                     : options.compression == Compression::none
                         ? 1
                         : std::max(1U, std::thread::hardware_concurrency());
  settings.extra_memory =
      options.extra_memory != 0 ? options.extra_memory : std::max(kLeastExtra, heap / 10);
  settings.can_be_parent = !file.empty();
  settings.wait_for_all = wait_for_all;
  settings.dawdle_us = dawdle_us;
  settings.progress = save_options.progress;

  info.regions = image_regions();
  info.created_ns = now_ns();
  auto writer = ImageWriter::begin(sink, info);
  if (!writer) return writer.error();
  // Not on this thread's stack: in a child of fork() that may be the stack of another thread by the
  // time that the save is abandoned there, and so forgotten.
  const auto made = std::make_unique<Save>(parts(incremental), settings, **writer);
  Save& save = *made;
  if (const auto ready = save.prepare(); !ready) return ready;

  if (!incremental)
    for (const auto& territory : territories) territory->hashes().forget();

  bool is_cut = false;
  // Whatever is thrown: a child of fork() must know of the save as long as threads work for it.
  const AtEnd not_running([&] {
    save.end();
    running.store(nullptr);
    if (is_cut) return;
    for (const auto& territory : territories) territory->settle();
  });
  const std::uint64_t protecting = sys::monotonic_nanoseconds();
  for (const auto& territory : territories) territory->method().always_lift(always_lift);
  if (!always_lift) save.protect_ahead();
  statistics.protecting_us = since_us(protecting);
  const std::uint64_t began = sys::monotonic_nanoseconds();
  if (hooks.before_cut) hooks.before_cut();
  for (ArenaState* const arena : arena_of)
    if (arena != nullptr) arena->lock_all();
  running.store(&save);
  // Only now is it known how much of an arena is used: no allocation is half done.
  const auto cut_done =
      save.cut([this](std::size_t part) { return length_of(part); }, statistics.frozen_us);
  is_cut = bool(cut_done);
  // What was written before counts as saved, as far as marks and states tell: until this image is
  // committed there is nothing that the next could be an increment of.
  if (is_cut) last = {};
  for (ArenaState* const arena : arena_of)
    if (arena != nullptr) arena->unlock_all();
  if (hooks.after_cut) hooks.after_cut();
  if (!cut_done) return cut_done;
  const std::uint64_t cut_at = sys::monotonic_nanoseconds();
  statistics.freezing_us = since_us(began);
  if (at_cut) at_cut();
  const auto written = save.finish(statistics);
  if (!written) return written;
  const auto finished = (*writer)->finish();
  if (!finished) return finished.error();
  if (const auto committed = sink.commit(); !committed) return committed;
  const auto counts = (*writer)->counts();
  statistics.pages_written = counts.pages_written;
  statistics.pages_zero = counts.pages_zero;
  statistics.pages_duplicate = counts.pages_duplicate;
  statistics.bytes = finished->file_bytes;
  statistics.save_us = since_us(cut_at);
  last = info.id;
  if (!incremental) last_files.clear();
  last_files.push_back(file);
  generation = info.generation;
  parts_of_last = territories.size();
  return Done{};
}

Result<Statistics> CheckpointerState::save(Sink& sink, const SaveOptions& save_options,
                                           const std::function<void()>& at_cut) {
  const std::lock_guard guard(control);
  Statistics statistics;
  Result<Done> saved = Done{};
  try {
    saved = save_locked(sink, save_options, statistics, at_cut);
  } catch (const std::bad_alloc&) {
    saved = Error{"checkpoint", ENOMEM};
  } catch (...) {  // a hook's
    sink.abandon();
    throw;
  }
  if (!saved) {
    sink.abandon();
    return saved.error();
  }
  return statistics;
}

// --- the public face

Checkpointer::Checkpointer(std::unique_ptr<CheckpointerState> state) noexcept
    : state_(std::move(state)) {}
Checkpointer::Checkpointer(Checkpointer&& other) noexcept = default;
Checkpointer& Checkpointer::operator=(Checkpointer&& other) noexcept {
  Checkpointer old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

Checkpointer::~Checkpointer() {
  if (state_ == nullptr) return;
  stop_periodic();
  const std::lock_guard under_way(state_->control);
  if (state_->lazy != nullptr) state_->lazy->stop();
  state_->end_lazy();
  remove_from_fork_list(*state_);
}

Result<Checkpointer> Checkpointer::create(const CheckpointerOptions& options) {
  auto state = std::make_unique<CheckpointerState>();
  state->options = options;
  state->next_address = kFirstAddress;
  state->cut = options.cut;
  if (options.cut == Cut::automatic) {
    const auto chosen = choose_cut(options);
    if (!chosen) return chosen.error();
    state->cut = *chosen;
  }
  const auto plan = plan_for(state->cut, options);
  if (!plan) return plan.error();
  state->plan = *plan;
  add_to_fork_list(*state);
  return Checkpointer(std::move(state));
}

Result<Arena*> Checkpointer::arena(const std::string& name, std::size_t capacity) {
  const std::lock_guard guard(state_->control);
  return state_->make_arena(name, capacity, 0);
}

Result<Done> Checkpointer::add_region(const std::string& name, PageRange range) {
  const std::lock_guard guard(state_->control);
  return state_->add(name, range);
}

void Checkpointer::set_hooks(Hooks hooks) {
  const std::lock_guard guard(state_->control);
  state_->hooks = std::move(hooks);
}

Result<Statistics> Checkpointer::checkpoint(Sink& sink, const SaveOptions& options) {
  return state_->save(sink, options, {});
}

std::future<Result<Statistics>> Checkpointer::checkpoint_async(std::unique_ptr<Sink> sink,
                                                               SaveOptions options) {
  auto told = std::make_shared<std::atomic<bool>>(false);
  auto cut = std::make_shared<std::promise<void>>();
  std::future<void> when_cut = cut->get_future();
  auto result = std::async(std::launch::async, [state = state_.get(), sink = std::move(sink),
                                                options = std::move(options), cut, told] {
    return state->save(*sink, options, [&] {
      if (!told->exchange(true)) cut->set_value();
    });
  });
  when_cut.wait();
  return result;
}

Result<ImageInfo> Checkpointer::restore(const std::string& path, RestoreMode mode) {
  const std::lock_guard guard(state_->control);
  return state_->restore(path, mode);
}

Result<Done> Checkpointer::finish_restore() {
  const std::lock_guard guard(state_->control);
  if (state_->lazy == nullptr) return Done{};
  const auto complete = state_->lazy->wait();
  if (complete) state_->end_lazy();
  return complete;
}

Cut Checkpointer::cut() const noexcept { return state_->cut; }
bool Checkpointer::serves_kernel_accesses() const noexcept {
  return state_->plan.region.backend == BackendId::uffd_thread;
}
bool Checkpointer::tracks_writes() const noexcept {
  return state_->plan.keeps_protected || state_->plan.region.dirty == DirtyForm::scan;
}

Arena* Checkpointer::find_arena(const std::string& name) const noexcept {
  for (const auto& arena : state_->arenas)
    if (arena->name() == name) return arena.get();
  return nullptr;
}

// --- the series

void CheckpointerState::run_series(const PeriodicOptions& series_options) {
  auto due = std::chrono::steady_clock::now() + series_options.every;
  unsigned since_full = 0;
  for (;;) {
    {
      std::unique_lock lock(series_lock);
      if (series_changed.wait_until(lock, due, [this] { return series_ends; })) return;
    }
    due += series_options.every;
    SaveOptions how;
    how.full = since_full == 0 || since_full >= series_options.full_every;
    Result<Statistics> saved = Error{"checkpoint", ECANCELED};
    const auto earlier = generations(series_options.directory, series_options.name);
    const std::uint64_t number = earlier && !earlier->empty() ? earlier->front().number + 1 : 1;
    auto sink = file_sink(generation_path(series_options.directory, series_options.name, number));
    if (sink) {
      saved = save(**sink, how, {});
    } else {
      saved = sink.error();
    }
    since_full = saved ? (how.full ? 1 : since_full + 1) : 0;
    if (saved) {
      if (const auto pruned = prune(series_options.directory, series_options.name,
                                    std::max(1U, series_options.keep));
          !pruned && series_options.done)
        series_options.done(pruned.error());
    }
    if (series_options.done) series_options.done(saved);
    due = std::max(due, std::chrono::steady_clock::now());
  }
}

Result<Done> Checkpointer::start_periodic(PeriodicOptions options) {
  stop_periodic();
  if (state_->series.joinable())
    return Error{"Checkpointer::start_periodic", EDEADLK, {}, "not from the series' own `done`"};
  if (options.every.count() <= 0)
    return Error{"Checkpointer::start_periodic", EINVAL, {}, "every: a time that is more than 0"};
  if (const auto readable = generations(options.directory, options.name); !readable)
    return readable.error();
  state_->series_ends = false;
  state_->series = std::thread(
      [state = state_.get(), options = std::move(options)] { state->run_series(options); });
  return Done{};
}

void Checkpointer::stop_periodic() noexcept {
  if (!state_->series.joinable()) return;
  {
    const std::lock_guard guard(state_->series_lock);
    state_->series_ends = true;
  }
  state_->series_changed.notify_all();
  if (state_->series.get_id() != std::this_thread::get_id()) state_->series.join();
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

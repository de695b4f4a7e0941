#include "checkpoint/heaps.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

#include "harness/machine.hpp"
#include "harness/statistics.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kBlock = 64 << 10;  // a size class of the arena: blocks lie side by side
constexpr std::size_t kHugePage = std::size_t{2} << 20;

checkpoint::Checkpointer make_checkpointer(const checkpoint::CheckpointerOptions& options,
                                           Report& report) {
  auto made = checkpoint::Checkpointer::create(options);
  if (!made) report.skip(describe(made.error()));
  return std::move(*made);
}

}  // namespace

void fill(std::byte* heap, std::size_t size_bytes) {
  std::mt19937_64 random(7);
  for (std::size_t offset = 0; offset < size_bytes; offset += page_size()) {
    auto* const words = reinterpret_cast<volatile std::uint64_t*>(heap + offset);
    words[0] = random() | 1;
    words[page_size() / 16] = random() | 1;
  }
}

void touch_all(std::byte* heap, std::size_t size_bytes) {
  for (std::size_t offset = 0; offset < size_bytes; offset += page_size()) {
    auto* const word = reinterpret_cast<volatile std::uint64_t*>(heap + offset);
    *word = *word;
  }
}

ArenaHeap::ArenaHeap(std::size_t size_bytes, const checkpoint::CheckpointerOptions& options,
                     Report& report)
    : report_(report), checkpointer_(make_checkpointer(options, report)) {
  checkpoint::Arena* const arena = checkpointer_.arena("heap", size_bytes).value();
  data_ = static_cast<std::byte*>(arena->resource()->allocate(kBlock, page_size()));
  size_bytes_ = kBlock;
  while (arena->used_bytes() + kBlock <= size_bytes) {
    void* const block = arena->resource()->allocate(kBlock, page_size());
    report.check(block == data_ + size_bytes_, "the arena's blocks do not lie side by side");
    size_bytes_ += kBlock;
  }
  fill(data_, size_bytes_);
  checkpoint::Hooks hooks;
  hooks.before_cut = [at = cut_begin_] { *at = now_ns(); };
  hooks.after_cut = [at = cut_end_] { *at = now_ns(); };
  checkpointer_.set_hooks(std::move(hooks));
}

checkpoint::Statistics ArenaHeap::save(checkpoint::Sink& sink) {
  checkpoint::SaveOptions whole;
  whole.full = true;
  const auto saved = checkpointer_.checkpoint(sink, whole);
  if (!saved) report_.fail(describe(saved.error()));
  report_.check(saved->pages_written * page_size() >= size_bytes_, "a page was not saved");
  return *saved;
}

void ArenaHeap::cut() {
  NullSink sink;
  checkpoint::SaveOptions whole;
  whole.full = true;
  whole.progress = [](std::uint64_t, std::uint64_t) { return false; };
  const auto saved = checkpointer_.checkpoint(sink, whole);
  if (!saved && saved.error().number != ECANCELED) report_.fail(describe(saved.error()));
}

PlainHeap::PlainHeap(std::size_t size_bytes, bool huge_pages)
    : memory_(size_bytes + (huge_pages ? kHugePage : 0)),
      data_(memory_.data()),
      size_bytes_(size_bytes) {
  if (huge_pages) {
    const auto address = reinterpret_cast<std::uintptr_t>(data_);
    data_ += (kHugePage - address % kHugePage) % kHugePage;
    madvise(data_, size_bytes, MADV_HUGEPAGE);
  }
  fill(data_, size_bytes_);
}

Notes::Notes(std::vector<std::string> names) : names_(std::move(names)) {
  void* const shared = mmap(nullptr, names_.size() * sizeof(Values), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  values_ = static_cast<Values*>(shared);
}

Notes::~Notes() { munmap(values_, names_.size() * sizeof(Values)); }

void Notes::add(std::size_t which, double value) noexcept {
  Values& values = values_[which];
  if (values.count < kMost) values.all[values.count++] = value;
}

void Notes::report(Report& report) const {
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const Values& values = values_[i];
    if (values.count == 0) continue;
    report.parameter(names_[i], median({values.all.begin(), values.all.begin() + values.count}));
  }
}

void measure_sides(const Effort& effort, Report& report, const SidesPlan& plan,
                   const MakeSide& ours, const MakeSide& rival) {
  require_memory(report, plan.memory_bytes);
  report.parameter("bytes", static_cast<double>(plan.heap_bytes));
  std::optional<Peer> our_process;
  std::optional<Peer> rival_process;
  const auto measure = [&](std::optional<Peer>& process, const MakeSide& make) {
    if (!process) process.emplace(report, make);
    const double cost = process->measure();
    if (plan.anew) process.reset();
    return cost;
  };
  if (!plan.anew) {
    // The second one has a copy of the first one's pipe, and so has to end before it.
    our_process.emplace(report, ours);
    rival_process.emplace(report, rival);
  }
  const int pairs = effort.quick ? plan.quick_pairs : plan.full_pairs;
  for (int i = plan.warm_up ? -1 : 0; i < pairs; ++i) {
    double our_cost = 0;
    double rival_cost = 0;
    if (i % 2 == 0) {
      our_cost = measure(our_process, ours);
      rival_cost = measure(rival_process, rival);
    } else {
      rival_cost = measure(rival_process, rival);
      our_cost = measure(our_process, ours);
    }
    if (i >= 0) report.pair(our_cost, rival_cost);
  }
}

void require_memory(Report& report, double bytes) {
  if (memory_available() >= bytes) return;
  const auto needed = static_cast<std::size_t>(bytes / static_cast<double>(kGiB)) + 1;
  report.skip("needs " + std::to_string(needed) + " GiB of available memory");
}

void require_cut(Report& report, const checkpoint::CheckpointerOptions& options) {
  const auto made = checkpoint::Checkpointer::create(options);
  if (!made) report.skip(describe(made.error()));
  report.parameter("cut", checkpoint::name(made->cut()));
  report.parameter("served_by",
                   made->serves_kernel_accesses() ? "handler threads" : "the faulting thread");
}

double sum_of_lines(const char* path, std::initializer_list<const char*> names) {
  std::ifstream file(path);
  std::string line;
  double sum = 0;
  while (std::getline(file, line))
    for (const char* const name : names)
      if (line.starts_with(name)) sum += std::stod(line.substr(std::strlen(name))) * 1024;
  return sum;
}

void only_in_full_run(const Effort& effort, Report& report) {
  if (effort.quick) report.skip("takes too long for --quick");
}

std::string size_text(std::size_t bytes) {
  return bytes >= kGiB ? std::to_string(bytes / kGiB) + " GiB"
                       : std::to_string(bytes / kMiB) + " MiB";
}

}  // namespace pagetrap::bench

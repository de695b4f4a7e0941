// checkpoint.restore_*: an image of 1 GiB, in the page cache, is put back into a new process. First
// touch: until the program has read a word in the middle of the heap. Total: until all of it is in
// memory, and on the lazy side a thread reads random places meanwhile, as a program would.
#include <atomic>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "checkpoint/heaps.hpp"
#include "checkpoint/image_file.hpp"
#include "checkpoint/questions.hpp"

namespace pagetrap::bench {

namespace {

using checkpoint::RestoreMode;

/// What the restored program looks for: the root object.
struct Root {
  std::byte* data;
  std::size_t size_bytes;
  std::uint64_t middle;  // the word in the middle
};

volatile std::uint64_t* middle_of(const Root& root) {
  return reinterpret_cast<volatile std::uint64_t*>(root.data +
                                                   root.size_bytes / 2 / page_size() * page_size());
}

/// In a process that ends with it.
void write_image(const std::string& path, Report& report) {
  const Peer maker(report, [&]() -> Peer::Batch {
    ArenaHeap heap(kGiB, {}, report);
    checkpoint::Arena* const arena = heap.checkpointer().find_arena("heap");
    Root* const root = arena->make<Root>(Root{heap.data(), heap.size_bytes(), 0});
    root->middle = *middle_of(*root);
    arena->set_root(root);
    const auto sink = checkpoint::file_sink(path).value();
    heap.save(*sink);
    return [] { return 0.0; };
  });
}

enum class Until { first_touch, all_there };

/// Readers of random places, until they are told to stop.
class Readers {
 public:
  explicit Readers(const Root& root)
      : thread_([this, root] {
          std::mt19937_64 random(11);
          while (!ending_.load(std::memory_order_relaxed)) {
            read_from(root.data + random() % root.size_bytes);
            reads_.fetch_add(1, std::memory_order_relaxed);
          }
        }) {}
  ~Readers() {
    ending_.store(true);
    thread_.join();
  }
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  [[nodiscard]] double reads() const noexcept { return static_cast<double>(reads_.load()); }

 private:
  std::atomic<bool> ending_{false};
  std::atomic<std::uint64_t> reads_{0};
  std::thread thread_;
};

double restore_once(const std::string& path, RestoreMode mode, Until until, Report& report,
                    Notes& notes) {
  auto checkpointer = checkpoint::Checkpointer::create().value();
  const double begin = now_ns();
  const auto restored = checkpointer.restore(path, mode);
  if (!restored) report.fail(describe(restored.error()));
  const Root root = *checkpointer.find_arena("heap")->root<Root>();
  report.check(*middle_of(root) == root.middle, "a restored word is not what was saved");
  double end = now_ns();
  if (mode == RestoreMode::lazy) {
    std::optional<Readers> readers;
    if (until == Until::all_there) readers.emplace(root);
    const auto finished = checkpointer.finish_restore();
    if (!finished) report.fail(describe(finished.error()));
    if (until == Until::all_there) {
      end = now_ns();
      notes.add(0, readers->reads());
    }
  }
  for (std::size_t offset = 0; offset < root.size_bytes; offset += page_size())
    report.check(*reinterpret_cast<std::uint64_t*>(root.data + offset) != 0, "a page is missing");
  return end - begin;
}

template <Until Wanted>
void measure(const Effort& effort, Report& report) {
  require_cut(report, {});
  require_memory(report, static_cast<double>(kGiB) * 3);
  const ScratchDirectory scratch(report);
  scratch.require(static_cast<double>(kGiB) * 1.2);
  const std::string path = scratch.file("image.ckpt");
  write_image(path, report);
  Notes notes({"reads_meanwhile"});
  SidesPlan plan;
  plan.heap_bytes = kGiB;
  plan.memory_bytes = static_cast<double>(kGiB) * 1.5;
  plan.anew = true;
  plan.quick_pairs = 2;
  plan.full_pairs = 15;
  const auto side = [&](RestoreMode mode) -> MakeSide {
    return [&, mode]() -> Peer::Batch {
      return [&, mode] { return restore_once(path, mode, Wanted, report, notes); };
    };
  };
  measure_sides(effort, report, plan, side(RestoreMode::lazy), side(RestoreMode::eager));
  notes.report(report);
}

}  // namespace

void add_restore(Questions& questions) {
  questions.push_back({.id = "checkpoint.restore_first_touch",
                       .asks = "from opening an image of 1 GiB to the first word of its heap",
                       .ours = "lazy restore, to the first read",
                       .rival = "eager restore",
                       .unit = "ns",
                       .target = 0.05,
                       .measure = measure<Until::first_touch>,
                       .scheduling = Scheduling::fair_group});
  questions.push_back({.id = "checkpoint.restore_lazy_total",
                       .asks = "from opening an image of 1 GiB to all of it in memory",
                       .ours = "lazy restore while a thread reads random places",
                       .rival = "eager restore",
                       .unit = "ns",
                       .target = 1.5,
                       .measure = measure<Until::all_there>,
                       .scheduling = Scheduling::fair_group,
                       .bound = "one thread that loads and a program that runs, against all CPUs"});
}

}  // namespace pagetrap::bench

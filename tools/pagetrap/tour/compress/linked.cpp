// Compressed memory at work: an index of this machine's text in less memory than it takes.
#include <array>
#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include <pagetrap/compress/compressed_memory.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/pager/pager.hpp>

#include "../../../../bench/rivals/memory_group.hpp"
#include "../../../../bench/rivals/zram_swap.hpp"
#include "../../measure/contained.hpp"
#include "../../measure/measured.hpp"
#include "../../text/progress.hpp"
#include "../../text/screen.hpp"
#include "../chapter.hpp"
#include "searcher.hpp"

namespace pagetrap::tool {
namespace {

constexpr std::array<unsigned, 2> kPercents{50, 25};

/// One kind of memory, with so much of the index in it.
struct Stage {
  Asked asked;
  double resident_bytes = 0;
  double total_bytes = 0;  // with what is compressed
  double fault_us = 0;     // median, from the handler's begin; 0: not known
  double ratio = 0;
  std::uint64_t faults = 0;
};

struct Figures {
  double index_bytes = 0;
  Asked plain;
  std::array<Stage, kPercents.size()> stages;
  FixedText<256> problem;
};

/// Durations of fills by powers of a quarter of an octave, counted in signal handlers.
class FillTimes {
 public:
  static void observe(void* self, const pager::Movement& movement) noexcept PAGETRAP_SIGNAL_SAFE {
    if (!movement.in) return;
    std::size_t bin = 0;
    for (std::uint64_t limit = 500; bin + 1 < kBins && movement.nanoseconds > limit; ++bin)
      limit += limit / 8;
    static_cast<FillTimes*>(self)->counts_[bin].fetch_add(1, std::memory_order_relaxed);
  }
  void clear() {
    for (auto& count : counts_) count.store(0);
  }
  [[nodiscard]] std::uint64_t count() const {
    std::uint64_t sum = 0;
    for (const auto& count : counts_) sum += count.load();
    return sum;
  }
  [[nodiscard]] double median_us() const {
    const std::uint64_t half = count() / 2;
    std::uint64_t seen = 0;
    std::uint64_t limit = 500;
    for (const auto& count : counts_) {
      seen += count.load();
      if (seen > half) return static_cast<double>(limit) / 1000;
      limit += limit / 8;
    }
    return 0;
  }

 private:
  static constexpr std::size_t kBins = 100;
  std::array<std::atomic<std::uint64_t>, kBins> counts_{};
};

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(describe(result.error()));
  return std::move(*result);
}

struct Outcome {
  Figures figures;      // as far as it came
  std::string failure;  // empty: none
};

/// In a process of its own.
template <class Work>
Outcome apart(const char* doing, Work work) {
  constexpr unsigned kPatience = 60;  // seconds
  Progress progress;
  progress.show(doing);
  const auto result = contained<Figures>(kPatience, [&](Figures& figures) {
    try {
      work(figures);
    } catch (const std::exception& error) {
      figures.problem.set(words_of(error));
    }
  });
  Outcome outcome{result.answer, result.failure};
  if (outcome.failure.empty()) outcome.failure = std::string(result.answer.problem.view());
  return outcome;
}

/// Throws what went wrong.
template <class Work>
Figures apart_for_sure(const char* doing, Work work) {
  const Outcome outcome = apart(doing, work);
  if (!outcome.failure.empty()) throw std::runtime_error(outcome.failure);
  return outcome.figures;
}

void in_plain_memory(const example::Corpus& corpus, std::size_t questions, Figures& figures) {
  CountingMemory memory;
  Searcher searcher(&memory);
  searcher.read(corpus);
  figures.index_bytes = static_cast<double>(memory.bytes());
  static_cast<void>(searcher.ask(corpus, questions));
  figures.plain = searcher.ask(corpus, questions);
}

void in_compressed_memory(const example::Corpus& corpus, std::size_t questions,
                          std::size_t index_bytes, Figures& figures) {
  FillTimes times;
  const auto engine = must(pager::Pager::create({.budget_bytes = 8 * index_bytes}));
  compress::CompressedMemoryOptions options;
  options.region.observer = FillTimes::observe;
  options.region.observer_self = &times;
  const auto memory =
      must(compress::CompressedMemory::create(*engine, 4 * index_bytes, std::move(options)));
  Searcher searcher(memory->resource());
  searcher.read(corpus);
  figures.index_bytes = static_cast<double>(memory->used_bytes());
  for (std::size_t i = 0; i < kPercents.size(); ++i) {
    must(memory->region().set_limit(index_bytes * kPercents[i] / 100));
    // Until the dictionary is there, which a thread beside this one learns.
    constexpr int kMostRounds = 8;
    for (int round = 0; round < kMostRounds; ++round) {
      static_cast<void>(searcher.ask(corpus, questions));
      if (memory->source().statistics().lessons_over) break;
    }
    times.clear();
    Stage& stage = figures.stages[i];
    stage.asked = searcher.ask(corpus, questions);
    stage.fault_us = times.median_us();
    stage.faults = times.count();
    stage.resident_bytes =
        static_cast<double>(bytes(Pages{memory->region().statistics().resident_pages}));
    const auto store = memory->source().statistics().store;
    stage.total_bytes = stage.resident_bytes + static_cast<double>(store.memory_bytes());
    stage.ratio = static_cast<double>(bytes(Pages{store.pages()})) /
                  static_cast<double>(store.memory_bytes());
  }
}

void in_zram(const example::Corpus& corpus, std::size_t questions,
             const bench::rivals::ZramSwap& swap, const bench::rivals::MemoryGroup& group,
             Figures& figures) {
  if (!group.join()) throw std::runtime_error("the control group takes no process");
  CountingMemory memory;
  Searcher searcher(&memory);
  searcher.read(corpus);
  figures.index_bytes = static_cast<double>(memory.bytes());
  for (std::size_t i = 0; i < kPercents.size(); ++i) {
    Stage& stage = figures.stages[i];
    const std::size_t limit = memory.bytes() * kPercents[i] / 100;
    if (!group.set_limit(limit)) throw std::runtime_error("the kernel cannot swap out so much");
    static_cast<void>(searcher.ask(corpus, questions));
    stage.asked = searcher.ask(corpus, questions);
    stage.resident_bytes = static_cast<double>(limit);
    const auto pool = static_cast<double>(swap.pool_bytes());
    stage.total_bytes = stage.resident_bytes + pool;
    stage.ratio = (figures.index_bytes - stage.resident_bytes) / pool;
  }
}

std::string times_text(double times) {
  char text[32];
  std::snprintf(text, sizeof text, times < 10 ? "%.2f x" : "%.0f x", times);
  return text;
}

std::string microseconds(double amount) { return duration_text(amount * 1e3); }

void add_rows(Table& table, const char* name, const Figures& figures, const Asked& plain) {
  for (std::size_t i = 0; i < kPercents.size(); ++i) {
    const Stage& stage = figures.stages[i];
    if (stage.asked.mean_us == 0) continue;  // it did not come so far
    table.add({std::string(name) + ", " + std::to_string(kPercents[i]) + "%",
               size_text(stage.resident_bytes), size_text(stage.total_bytes),
               times_text(stage.ratio), microseconds(stage.asked.mean_us),
               times_text(stage.asked.mean_us / plain.mean_us), microseconds(stage.asked.median_us),
               microseconds(stage.asked.p999_us),
               stage.fault_us > 0 ? microseconds(stage.fault_us) : std::string("-")});
  }
}

/// The kernel's way. Why not, if not.
std::string measure_zram(const example::Corpus& corpus, std::size_t questions,
                         std::size_t index_bytes, std::optional<Figures>& figures) {
  const bench::rivals::ZramSwap swap(8 * index_bytes);
  if (!swap.there()) return swap.reason();
  const bench::rivals::MemoryGroup group(16 * index_bytes);
  if (!group.there()) return group.reason();
  group.prefer_swap();
  const Outcome outcome = apart(
      "asking in zram ...", [&](Figures& told) { in_zram(corpus, questions, swap, group, told); });
  figures = outcome.figures;
  if (outcome.failure.find("SIGKILL") == std::string::npos) return outcome.failure;
  return "the kernel killed it, out of memory in its control group with swap free";
}

bool same_answers(const Figures& figures, const Asked& plain) {
  for (const Stage& stage : figures.stages)
    if (stage.asked.sum != plain.sum) return false;
  return true;
}

bool tell(const TourPace& pace) {
  const std::size_t questions = pace.quick ? 5'000 : 20'000;
  const auto corpus = example::Corpus::read({"/usr/share/doc", "/usr/include"},
                                            (pace.quick ? std::size_t{8} : 32) << 20);
  print_paragraph("An index of " + size_text(static_cast<double>(corpus.bytes())) +
                  " of this machine's text" + (corpus.made_up() ? ", some of it made up" : "") +
                  " answers " + grouped(static_cast<double>(questions)) +
                  " questions: a word of a document drawn at random, and the documents it is in.");
  std::printf("\n");
  const auto plain = apart_for_sure("asking in plain memory ...", [&](Figures& told) {
    in_plain_memory(corpus, questions, told);
  });
  const auto index_bytes = static_cast<std::size_t>(plain.index_bytes);
  const auto ours = apart_for_sure("asking in compressed memory ...", [&](Figures& told) {
    in_compressed_memory(corpus, questions, index_bytes, told);
  });
  std::optional<Figures> zram;
  const std::string no_zram = measure_zram(corpus, questions, index_bytes, zram);
  Table table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right, Align::right, Align::right});
  table.add({"", "in memory", "in all", "ratio", "question", "slower", "median", "p99.9", "fill"});
  table.add({"plain memory", size_text(plain.index_bytes), size_text(plain.index_bytes), "",
             microseconds(plain.plain.mean_us), "", microseconds(plain.plain.median_us),
             microseconds(plain.plain.p999_us), ""});
  add_rows(table, "pagetrap", ours, plain.plain);
  if (zram.has_value()) add_rows(table, "zram", *zram, plain.plain);
  table.print();
  std::printf("\n");
  if (!no_zram.empty()) print_paragraph("The same under zram is not complete: " + no_zram + ".");
  const bool right = same_answers(ours, plain.plain);
  print_paragraph(right ? "All answers are the same as in plain memory. \"In all\" counts what is "
                          "compressed, dictionaries and tables too; \"fill\" is a page's way back "
                          "in the fault handler, median."
                        : "The answers DIFFER from those in plain memory.",
                  0, 0, right ? Style::plain : Style::bad);
  return right;
}

}  // namespace

bool tell_compress(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "Standard containers on a std::pmr::memory_resource whose memory compresses itself: pages "
      "that "
      "are not in use are kept in few bytes, and come back when they are touched. No root, no "
      "swap device, and no other program is asked.");
  try {
    return tell(pace);
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool

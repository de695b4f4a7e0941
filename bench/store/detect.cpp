// store.detect.*: what it costs to find out which pages a transaction wrote: for each detector, a
// transaction that writes a word in each of some pages, without durability; against mprotect and
// SIGSEGV by hand, which does the same, comparison with a copy included, but keeps no log.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <pagetrap/store/store.hpp>

#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "rivals/write_trackers.hpp"
#include "store/questions.hpp"
#include "store/sides.hpp"

namespace pagetrap::bench {

namespace {

using store::Detect;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kFew = 4;
constexpr std::size_t kMany = 4096;

std::size_t size_for(const Effort& effort) { return (effort.quick ? 64 : 1024) * kMiB; }

/// Pages in a store, all of them written before.
class OurPages {
 public:
  OurPages(const std::string& directory, std::size_t bytes, Detect detect)
      : store_(store::Store::open(directory + "/pages.store", options(detect)).value()),
        count_(bytes / kPage),
        announces_(detect == Detect::barrier) {
    store_.transaction([&] { pages_ = allocate(bytes); }).value();
    for (std::size_t first = 0; first < count_; first += kMany)
      write(first, std::min(kMany, count_ - first), 1);
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

  void write(std::span<const std::uint64_t> pages, std::uint64_t value) {
    store_
        .transaction([&](store::Transaction& transaction) {
          for (const std::uint64_t page : pages) {
            std::byte* const word = pages_ + page * kPage + 8 * (page % 64);
            if (announces_) transaction.write(word, sizeof value);
            std::memcpy(word, &value, sizeof value);
          }
        })
        .value();
  }

 private:
  static store::StoreOptions options(Detect detect) {
    store::StoreOptions made;
    made.detect = detect;
    made.durability = store::Durability::none;
    return made;
  }
  std::byte* allocate(std::size_t bytes) {
    return static_cast<std::byte*>(store_.resource()->allocate(bytes, kPage));
  }
  void write(std::size_t first, std::size_t count, std::uint64_t value) {
    std::vector<std::uint64_t> pages;
    for (std::size_t i = 0; i < count; ++i) pages.push_back(first + i);
    write(pages, value);
  }

  store::Store store_;
  std::byte* pages_ = nullptr;
  std::size_t count_;
  bool announces_;
};

/// The same by hand.
class PagesByHand {
 public:
  explicit PagesByHand(std::size_t bytes)
      : pages_(bytes), image_(bytes), count_(bytes / kPage), log_(kMiB) {
    for (std::size_t i = 0; i < count_; ++i) write_to(image_.page(i), 1);
    for (std::size_t i = 0; i < count_; ++i) std::memcpy(pages_.page(i), image_.page(i), kPage);
    commit();
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

  void write(std::span<const std::uint64_t> pages, std::uint64_t value) {
    for (const std::uint64_t page : pages)
      std::memcpy(pages_.page(page) + 8 * (page % 64), &value, sizeof value);
    commit();
  }

 private:
  void commit() {
    std::size_t at = 0;
    for (std::byte* const page : pages_.written()) {
      std::byte* const before = image_.data() + (page - pages_.page(0));
      for (std::size_t i = 0; i < kPage; i += 64) {
        if (std::memcmp(page + i, before + i, 64) == 0) continue;
        std::memcpy(before + i, page + i, 64);
        std::memcpy(log_.data() + at, page + i, 64);
        at = (at + 64) % log_.size();
      }
    }
    pages_.rearm_each();
  }

  rivals::MprotectTrap::Armed armed_;
  rivals::WriteTracker<rivals::MprotectTrap> pages_;
  Mapping image_;
  std::size_t count_;
  std::vector<std::byte> log_;
};

/// Cost of a page, in transactions of `touched` random pages, or always the same.
template <class Pages>
double cost_of_a_page(Pages& pages, Keys& keys, std::size_t touched, bool same) {
  const int transactions = static_cast<int>(std::max<std::size_t>(1, 2000 / touched));
  static std::uint64_t value = 1;
  std::vector<std::uint64_t> chosen(touched);
  const auto choose = [&] {
    for (std::uint64_t& page : chosen) page = keys.next();
  };
  choose();
  return time_ns([&] {
           for (int i = 0; i < transactions; ++i) {
             if (!same) choose();
             pages.write(chosen, ++value);
           }
         }) /
         (transactions * static_cast<double>(touched));
}

template <class Pages, class... Arguments>
MakeSide side(std::size_t touched, bool same, Arguments... arguments) {
  return [=]() -> Peer::Batch {
    auto pages = std::make_shared<Pages>(arguments...);
    auto keys = std::make_shared<Keys>(pages->count());
    return [=] { return cost_of_a_page(*pages, *keys, touched, same); };
  };
}

template <Detect Form, std::size_t Touched, bool Same>
void measure(const Effort& effort, Report& report) {
  const std::size_t bytes = size_for(effort);
  const StoreFolder folder(report, 3.0 * static_cast<double>(bytes));
  report.parameter("bytes", static_cast<double>(bytes));
  report.parameter("pages_in_a_transaction", static_cast<double>(Touched));
  measure_sides(with_fewer_pairs(effort, 9), report,
                side<OurPages>(Touched, Same, folder.make("ours"), bytes, Form),
                side<PagesByHand>(Touched, Same, bytes));
}

/// From how many pages on is looking at all of them cheaper than a trap for each?
void measure_crossover(const Effort& effort, Report& report) {
  const std::size_t bytes = size_for(effort);
  const StoreFolder folder(report, 6.0 * static_cast<double>(bytes));
  report.parameter("bytes", static_cast<double>(bytes));
  OurPages traps(folder.make("traps"), bytes, Detect::traps);
  OurPages scan(folder.make("scan"), bytes, Detect::scan);
  Keys keys(traps.count());
  for (int round = 0; round < (effort.quick ? 3 : 7); ++round) {
    double crossing = 0;
    double before = 0;  // of a transaction: how much more the scan took
    for (std::size_t touched = 1; touched <= kMany && crossing == 0; touched *= 2) {
      const auto pages = static_cast<double>(touched);
      const double more = (cost_of_a_page(scan, keys, touched, false) -
                           cost_of_a_page(traps, keys, touched, false)) *
                          pages;
      if (more <= 0) crossing = touched == 1 ? 1 : pages / 2 + pages / 2 * before / (before - more);
      before = more;
    }
    report.check(crossing != 0, "the scan is never cheaper");
    report.pair(crossing, static_cast<double>(traps.count()));
  }
}

template <Detect Form, std::size_t Touched = kFew, bool Same = false>
Question question(const char* id, const char* ours) {
  return {.id = id,
          .asks = std::string("a written page in a transaction of ") +
                  (Same ? "the same " : "random ") + std::to_string(Touched) +
                  ", without durability",
          .ours = ours,
          .rival = rivals::MprotectTrap::kName,
          .unit = "ns",
          .measure = measure<Form, Touched, Same>};
}

}  // namespace

void add_store_detection(Questions& questions) {
  questions.push_back(question<Detect::ring>("store.detect.ring", "dirty ring"));
  questions.push_back(question<Detect::traps>("store.detect.trap", "traps"));
  questions.push_back(question<Detect::scan>("store.detect.scan", "a scan of all pages"));
  questions.push_back(
      question<Detect::ring, kFew, true>("store.detect.hot", "pages that stay open"));
  questions.push_back(question<Detect::barrier>("store.detect.barrier", "tx.write"));
  questions.push_back(question<Detect::ring, kMany>("store.detect.ring.bulk", "dirty ring"));
  questions.push_back(question<Detect::traps, kMany>("store.detect.trap.bulk", "traps"));
  questions.push_back(question<Detect::scan, kMany>("store.detect.scan.bulk", "a scan of all"));
  questions.push_back(question<Detect::barrier, kMany>("store.detect.barrier.bulk", "tx.write"));
  questions.push_back({.id = "store.detect.crossover",
                       .asks = "written pages in a transaction from which a scan beats traps",
                       .ours = "pages written",
                       .rival = "pages of the store",
                       .unit = "pages",
                       .measure = measure_crossover});
}

}  // namespace pagetrap::bench

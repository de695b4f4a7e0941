// checkpoint.redis_like: what do the clients of an in-memory store notice? One thread serves a hash
// table of 1 GiB; requests arrive at a fixed rate, whether it keeps up or not, and a request's
// latency counts from its arrival: a stop delays all that arrive in it. The tail is over the
// requests that arrive between the beginning of a save and its end.
#include <array>
#include <atomic>
#include <memory_resource>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "checkpoint/heaps.hpp"
#include "checkpoint/questions.hpp"
#include "checkpoint/writers.hpp"
#include "harness/statistics.hpp"
#include "rivals/fork_save.hpp"

namespace pagetrap::bench {

namespace {

// Requests a second, half of which write. The second is more than this can keep up with while pages
// are protected, and about what one Redis does in a pipeline.
constexpr double kUsual = 20e3;
constexpr double kMany = 100e3;
constexpr std::size_t kEntries = 1'850'000;
using Value = std::array<std::uint64_t, 62>;  // with key and link 512 bytes
using Table = std::pmr::unordered_map<std::uint64_t, Value>;

void fill_table(Table& table) {
  table.reserve(kEntries);
  for (std::uint64_t key = 0; key < kEntries; ++key) {
    Value& value = table[key];
    value.front() = key * 0x9E37'79B9'7F4A'7C15 | 1;
    value.back() = key + 1;
  }
}

/// The thread that serves.
class Server {
 public:
  Server(Table& table, double per_second)
      : table_(table), period_ns_(1e9 / per_second), thread_([this] { serve(); }) {}
  ~Server() { stop(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void stop() {
    ending_.store(true);
    if (thread_.joinable()) thread_.join();
  }

  /// Of the requests that arrived between the two.
  [[nodiscard]] std::vector<double> latencies(double begin_ns, double end_ns) const {
    std::vector<double> found;
    for (const Request& request : served_)
      if (request.arrived_ns >= begin_ns && request.arrived_ns < end_ns)
        found.push_back(request.latency_ns);
    return found;
  }

 private:
  struct Request {
    double arrived_ns;
    double latency_ns;
  };

  void serve() {
    std::mt19937_64 random(3);
    served_.assign(std::size_t{1} << 21, {});  // all of it present
    served_.clear();
    double arrival = now_ns();
    std::uint64_t sum = 0;
    while (!ending_.load(std::memory_order_relaxed) && served_.size() < served_.capacity()) {
      while (now_ns() < arrival) {
      }
      Value& value = table_.find(random() % kEntries)->second;
      if (served_.size() % 2 == 0) {
        value[1 + random() % 60] = arrival < 0 ? 0 : random();
      } else {
        sum += value[1 + random() % 60];
      }
      asm volatile("" : "+r"(sum));
      served_.push_back({arrival, now_ns() - arrival});
      arrival += period_ns_;
    }
  }

  Table& table_;
  double period_ns_;
  std::atomic<bool> ending_{false};
  std::vector<Request> served_;
  std::thread thread_;
};

enum Note : std::size_t { our_save, rival_save, our_worst, rival_worst, our_quiet, rival_quiet };

template <class Save>
double tail(Table& table, double per_second, Notes& notes, bool is_ours, Save&& save) {
  Server server(table, per_second);
  sleep_ms(150);
  const double begin = now_ns();
  save();
  const double end = now_ns();
  sleep_ms(20);
  server.stop();
  const std::vector<double> during = server.latencies(begin, end);
  notes.add(is_ours ? our_save : rival_save, (end - begin) / 1e6);
  notes.add(is_ours ? our_worst : rival_worst, percentile(during, 1) / 1e3);
  notes.add(is_ours ? our_quiet : rival_quiet,
            percentile(server.latencies(begin - 100e6, begin), 0.999) / 1e3);
  return percentile(during, 0.999);
}

template <bool Handlers, bool Busy>
void measure(const Effort& effort, Report& report) {
  if (Handlers || Busy) only_in_full_run(effort, report);
  const checkpoint::CheckpointerOptions options = full_images(Handlers);
  require_cut(report, options);
  SidesPlan plan;
  plan.heap_bytes = kEntries * (sizeof(Value) + 16);
  plan.warm_up = false;
  plan.memory_bytes = static_cast<double>(kGiB) * 3.5;
  plan.quick_pairs = 2;
  plan.full_pairs = 15;
  constexpr double kRate = Busy ? kMany : kUsual;
  report.parameter("requests_per_second", kRate);
  Notes notes({"save_ours_ms", "save_rival_ms", "worst_ours_us", "worst_rival_us",
               "tail_before_ours_us", "tail_before_rival_us"});
  measure_sides(
      effort, report, plan,
      [&]() -> Peer::Batch {
        auto checkpointer = std::make_shared<checkpoint::Checkpointer>(
            checkpoint::Checkpointer::create(options).value());
        checkpoint::Arena* const arena = checkpointer->arena("table", 2 * kGiB).value();
        Table* const table = arena->make<Table>();
        fill_table(*table);
        return [=, &report, &notes] {
          return tail(*table, kRate, notes, true, [&] {
            NullSink sink;
            checkpoint::SaveOptions whole;
            whole.full = true;
            const auto saved = checkpointer->checkpoint(sink, whole);
            if (!saved) report.fail(describe(saved.error()));
          });
        };
      },
      [&]() -> Peer::Batch {
        auto memory = std::make_shared<Mapping>(kGiB + kGiB / 8);
        auto resource = std::make_shared<std::pmr::monotonic_buffer_resource>(
            memory->data(), memory->size_bytes(), std::pmr::null_memory_resource());
        auto table = std::make_shared<Table>(resource.get());
        fill_table(*table);
        return [=, &notes] {
          return tail(*table, kRate, notes, false, [&] {
            rivals::ForkSave snapshot(memory->data(), kEntries * (sizeof(Value) + 16),
                                      rivals::ForkedChild::saves_all);
            snapshot.wait();
          });
        };
      });
  notes.report(report);
}

Question question(const char* id, const char* how, void (*measure)(const Effort&, Report&)) {
  return {
      .id = id,
      .asks = std::string("99.9% of requests to a hash table of 1 GiB being saved") + how,
      .ours = std::string("99.9th percentile of latency in a checkpoint") + how,
      .rival = "in a save by fork()",
      .unit = "ns",
      .target = 0.1,
      .measure = measure,
      .scheduling = Scheduling::fair_group,
      .bound = "opening pages interrupts the CPU that saves: 20 us a call in a virtual machine"};
}

}  // namespace

void add_hash_table(Questions& questions) {
  questions.push_back(question("checkpoint.redis_like", "", measure<false, false>));
  questions.push_back(question("checkpoint.redis_like.handlers", ", faults in handler threads",
                               measure<true, false>));
  questions.push_back(
      question("checkpoint.redis_like.busy", ", 100,000 requests a second", measure<false, true>));
}

}  // namespace pagetrap::bench

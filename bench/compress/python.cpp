// compress.run.python_25: an unmodified python3 that reads dictionaries at random, and builds a new
// one in place of every sixteenth.
#include <cstdlib>

#include "compress/program_sides.hpp"
#include "compress/questions.hpp"

namespace pagetrap::bench {

namespace {

// Each line of its input is a number of operations, and is answered with nanoseconds for one.
constexpr const char* kScript = R"(
import sys, time

def build(i):
    return {"id": i, "name": "user %d" % i, "email": "user%d@example.org" % (i * 7919),
            "score": i * 0.37, "tags": ["tag %d" % (i % 97), "label %d" % (i % 89)]}

count = int(sys.argv[1])
table = {i: build(i) for i in range(count)}
print("built", flush=True)
random = 42
for line in sys.stdin:
    operations = int(line)
    begin = time.perf_counter_ns()
    for step in range(operations):
        random = (random * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        i = (random >> 33) % count
        user = table[i]
        if user["id"] != i or user["tags"][0] != "tag %d" % (i % 97) or len(user["name"]) < 6:
            sys.exit("a dictionary has not what was put into it")
        if step % 16 == 0:
            table[i] = build(i)
    print((time.perf_counter_ns() - begin) / operations, flush=True)
)";

class Python final : public Subject {
 public:
  Python(const std::string& path, const Words& prefix, const std::function<bool()>& before,
         std::size_t count, std::size_t operations)
      : operations_(std::to_string(operations)), interpreter_(words(path, prefix, count), before) {}

  bool fill() {
    std::string said;
    return interpreter_.hear(said) && said == "built";
  }
  bool measure(double& cost) override {
    std::string said;
    if (!interpreter_.tell(operations_) || !interpreter_.hear(said)) {
      // Ended by itself: it has found something wrong, and said so.
      if (interpreter_.wait() < 128) throw std::runtime_error("python3 ended with an error");
      return false;
    }
    cost = std::strtod(said.c_str(), nullptr);
    return true;
  }
  Program& program() override { return interpreter_; }

 private:
  static Words words(const std::string& path, const Words& prefix, std::size_t count) {
    Words all = prefix;
    all.insert(all.end(), {path, "-I", "-c", kScript, std::to_string(count)});
    return all;
  }
  std::string operations_;
  Program interpreter_;
};

void measure(const Effort& effort, Report& report) {
  const std::string path = find_program("python3");
  if (path.empty()) report.skip("python3 is not installed (tools/install-rivals)");
  const std::size_t count = effort.quick ? 100'000 : 250'000;
  const std::size_t operations = 2'000;
  report.parameter("dictionaries", static_cast<double>(count));
  against_zram(
      effort, report, 0.25,
      [&](const Words& prefix, const std::function<bool()>& before) -> std::unique_ptr<Subject> {
        auto python = std::make_unique<Python>(path, prefix, before, count, operations);
        return python->fill() ? std::move(python) : nullptr;
      });
}

}  // namespace

void add_python(Questions& questions) {
  questions.push_back(
      {.id = "compress.run.python_25",
       .asks = "a random dictionary of python3's is read, one in 16 built, a quarter in memory",
       .ours = "python3 under `pagetrap run --delivery signals --memory`",
       .rival = "python3, zram (LZ4) swap in a memory control group, as many bytes in all",
       .unit = "ns",
       .target = 0.5,
       .measure = measure,
       .scheduling = Scheduling::fair_group,
       .bound = "a fault of 8 us, and LZ4 both ways for two pages in three accesses"});
}

}  // namespace pagetrap::bench

// guard.*.cpu: processor time of unmodified programs under guards, against glibc's malloc. A pair
// is the geometric mean over the programs, each run once on either side.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "guard/questions.hpp"
#include "harness/pairs.hpp"
#include "harness/program.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSql = R"(
create table t(id integer primary key, name text, body text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000)
  insert into t select i, 'name-' || (i % 1000), 'the quick brown fox ' || (i * 7919) from n;
create index t_name on t(name);
select count(*), sum(length(body)) from t;
update t set body = body || ' again' where id % 3 = 0;
select name, count(*), sum(length(body)) from t group by name order by name limit 5;
)";
constexpr const char* kPerl =
    "my %h; for my $i (1..60000) { $h{\"k$i\"} = [$i, \"v$i\"] } my $s = 0;"
    "for my $i (1..60000) { $s += $h{\"k$i\"}[0] } print \"$s\\n\"";
constexpr const char* kPython =
    "d = {str(i): [i, str(i) * 2] for i in range(40000)}\n"
    "print(sum(v[0] for v in d.values()))";
constexpr const char* kLua =
    "local function tree(n) if n == 0 then return {} end return {tree(n-1), tree(n-1)} end "
    "local t = tree(15) local s = {} for i = 1, 60000 do s[#s+1] = 'text ' .. i end print(#s)";

std::string c_source() {
  std::string text = "int printf(const char*, ...);\n";
  for (int i = 0; i < 250; ++i) {
    const std::string n = std::to_string(i);
    text += "int f" + n + "(int a, int b) { int s = 0; for (int i = 0; i < a; i++) { s += b * i;" +
            " if (s % 7 == " + std::to_string(i % 7) + ") s ^= a; } return s + (a > b ? a * " + n +
            " : b); }\n";
  }
  return text;
}

struct Subject {
  std::string name;
  Words words;
};

/// Files that the programs read, removed at the end.
class Inputs {
 public:
  Inputs() {
    std::string name = (fs::temp_directory_path() / "pagetrap-guard-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) folder_ = name;
    std::ofstream(folder_ / "script.sql") << kSql;
    std::ofstream(folder_ / "program.c") << c_source();
  }
  ~Inputs() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return (folder_ / name).string(); }

 private:
  fs::path folder_;
};

std::string find_cc1() {
  for (const char* const version : {"12", "13", "14"}) {
    const std::string path = std::string("/usr/lib/gcc/x86_64-linux-gnu/") + version + "/cc1";
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

std::vector<Subject> subjects(const Inputs& inputs, Report& report) {
  std::vector<Subject> all;
  std::string missing;
  const auto add = [&](const char* name, const std::string& path, const Words& arguments) {
    if (path.empty()) {
      missing += (missing.empty() ? "" : ", ") + std::string(name);
      return;
    }
    Subject subject{name, {path}};
    subject.words.insert(subject.words.end(), arguments.begin(), arguments.end());
    all.push_back(subject);
  };
  add("sqlite3", find_program("sqlite3"), {":memory:", ".read " + inputs.file("script.sql")});
  add("perl", find_program("perl"), {"-e", kPerl});
  add("python3", find_program("python3"), {"-c", kPython});
  add("lua", find_program("lua5.4"), {"-e", kLua});
  add("cc1", find_cc1(), {"-quiet", "-O1", inputs.file("program.c"), "-o", "/dev/null"});
  if (!missing.empty()) report.parameter("not_installed", missing);
  if (all.size() < 2) report.skip("too few of the programs are installed: " + missing);
  return all;
}

double cpu_seconds(const Words& words, Report& report) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  report.check(child > 0 && wait4(child, &status, 0, &usage) == child, "no process");
  report.check(status == 0, words.back() + " failed");
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void measure_strength(const Words& options, const Effort& effort, Report& report) {
  const std::string command = own_command();
  report.check(!command.empty(), "no /proc");
  setenv("PYTHONMALLOC", "malloc", 1);  // on both sides
  const Inputs inputs;
  const auto all = subjects(inputs, report);
  const auto mean = [&](bool guarded) {
    double logarithms = 0;
    for (const Subject& subject : all) {
      Words words;
      if (guarded) {
        words = {command, "run"};
        words.insert(words.end(), options.begin(), options.end());
        words.emplace_back("--");
      }
      words.insert(words.end(), subject.words.begin(), subject.words.end());
      const double cost = cpu_seconds(words, report);
      logarithms += std::log(cost);
    }
    return std::exp(logarithms / static_cast<double>(all.size())) * 1e9;
  };
  interleave(
      with_fewer_pairs(effort, effort.quick ? 2 : 5), report, [&] { return mean(true); },
      [&] { return mean(false); });
}

template <const char* const* Options>
void measure(const Effort& effort, Report& report) {
  Words options;
  for (const char* const* option = Options; *option != nullptr; ++option)
    options.emplace_back(*option);
  measure_strength(options, effort, report);
}

constexpr const char* kPage[] = {"--guard=page", nullptr};
constexpr const char* kAlias[] = {"--guard=alias", nullptr};
constexpr const char* kAliasLazy[] = {"--guard=alias", "--guard-revoke", "lazy", nullptr};
constexpr const char* kSample[] = {"--guard=sample", nullptr};

}  // namespace

void add_guarded_programs(Questions& questions) {
  const auto add = [&](const char* id, const char* ours, double target,
                       void (*function)(const Effort&, Report&)) {
    questions.push_back({.id = id,
                         .asks = "processor time of programs that allocate a lot",
                         .ours = ours,
                         .rival = "glibc",
                         .unit = "ns",
                         .target = target,
                         .measure = function,
                         .scheduling = Scheduling::fair_group,
                         .bound = "page faults: each block is a page that must come and go"});
  };
  add("guard.page.cpu", "page", 3.0, measure<kPage>);
  add("guard.alias.cpu", "alias, at once", 2.0, measure<kAlias>);
  add("guard.alias_lazy.cpu", "alias, lazy", 1.25, measure<kAliasLazy>);
  add("guard.sample.cpu", "sample, 1 in 1000", 1.02, measure<kSample>);
}

}  // namespace pagetrap::bench

// Programs of others under guards, in each strength: the same output, and no report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "../../bench/guard/workloads.hpp"
#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

namespace workloads = bench::workloads;

struct Subject {
  const char* name;
  const char* program;
  const char* package;
  Words arguments;
  std::string input{};
  Words options{};  // of run
};

class GuardedPrograms : public testing::TestWithParam<std::tuple<Subject, const char*>> {};

TEST_P(GuardedPrograms, PrintTheSame) {
  const auto& [subject, strength] = GetParam();
  const std::string program = preload::test::find_program(subject.program);
  if (program.empty()) GTEST_SKIP() << subject.package << " is not installed";
  Words words{program};
  words.insert(words.end(), subject.arguments.begin(), subject.arguments.end());
  const Ran plain = preload::test::run(words, {.input = subject.input});
  ASSERT_EQ(plain.status, 0) << plain.errors;
  Words options{std::string("=") + strength};
  if (strength == std::string("alias_lazy")) options = {"=alias", "--guard-revoke", "lazy"};
  if (strength == std::string("cold")) options = {"=page+cold", "--guard-hot", "2M"};
  options.insert(options.end(), subject.options.begin(), subject.options.end());
  const Guarded guarded = run_guarded(options, words, subject.input);
  EXPECT_EQ(guarded.ran.status, 0) << guarded.ran.errors;
  EXPECT_EQ(guarded.ran.output, plain.output);
  EXPECT_EQ(guarded.ran.errors, plain.errors);
  EXPECT_TRUE(guarded.reports.empty()) << guarded.reports[0];
}

const Subject kSubjects[] = {
    {"sqlite", "sqlite3", "sqlite3", {":memory:"}, workloads::sql(4000)},
    {"python", "python3.11", "python3.11", {"-c", workloads::python(5000)}},
    {"perl", "perl", "perl", {"-e", workloads::perl(5000)}},
    {"lua", "lua5.4", "lua5.4", {"-e", workloads::lua(10, 5000)}},
    {"bash",
     "bash",
     "bash",
     {"-c",
      "x=$(ls /usr/bin | wc -l); for i in 1 2 3; do echo $i | cat; done;"
      "echo $x $(echo a b c | tr a-z A-Z)"}},
    {"make",
     "make",
     "make",
     {"-j2", "-f", "-"},
     "all: c\na b:\n\t@echo $@ > /dev/null\nc: a b\n\t@echo $@ of $^\n"},
    {"git",
     "bash",
     "git",
     {"-c",
      "d=$(mktemp -d) && cd $d && git init -q . && echo x > f && git add f && "
      "git -c user.name=n -c user.email=e commit -qm m && git log --format=%s;"
      "rm -rf $d"}},
    {"gzip", "bash", "gzip", {"-c", "gzip -c /usr/bin/bash | md5sum"}},
    {"xz", "bash", "xz-utils", {"-c", "xz -1 -c /usr/bin/ls | md5sum"}},
    {"openssl", "openssl", "openssl", {"dgst", "-sha256", "/usr/bin/bash"}},
    {"cc1", "gcc", "gcc", {"-x", "c", "-O1", "-S", "-o", "-", "-"}, workloads::c(40)},
    // LLVM keeps flags in four low bits of pointers.
    {"clang",
     "clang-14",
     "clang-14",
     {"-x", "c", "-O1", "-S", "-o", "-", "-"},
     workloads::c(40),
     {"--guard-align", "16"}},
    {"gdb",
     "gdb",
     "gdb",
     {"-batch", "-ex", "info line main", "-ex", "python print(6 * 7)", "/usr/bin/bash"}},
    {"node",
     "node",
     "nodejs",
     {"-e",
      "const m = new Map(); for (let i = 0; i < 20000; i++) m.set('k' + i, [i]);"
      "require('zlib').deflate('x'.repeat(1e6), (e, z) => console.log(m.size, z.length))"}},
    {"cmake", "cmake", "cmake", {"-E", "capabilities"}},
    {"cmake_project",
     "bash",
     "cmake",
     {"-c",
      "d=$(mktemp -d) && cd $d && echo 'project(p C)' > CMakeLists.txt && "
      "cmake -S . -B b 2>/dev/null | grep -v $d; ls b; rm -rf $d"}},
};

INSTANTIATE_TEST_SUITE_P(Guard, GuardedPrograms,
                         testing::Combine(testing::ValuesIn(kSubjects),
                                          testing::Values("page", "cold", "alias", "alias_lazy",
                                                          "sample")),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param).name) + "_" +
                                  std::get<1>(one.param);
                         });

TEST(GuardedRedis, ServesItsBenchmark) {
  const std::string server = preload::test::find_program("redis-server");
  const std::string benchmark = preload::test::find_program("redis-benchmark");
  if (server.empty() || benchmark.empty()) GTEST_SKIP() << "redis-server is not installed";
  const Words strengths[] = {{"=page"},
                             {"=page+cold", "--guard-hot", "4M"},
                             {"=alias"},
                             {"=alias", "--guard-revoke", "lazy"},
                             {"=sample"}};
  for (const Words& strength : strengths) {
    // On loopback, at a port that the kernel finds free.
    const std::string script =
        "d=$(mktemp -d); cd $d; for try in 1 2 3 4 5; do port=$((20000 + RANDOM % 20000)); " +
        server +
        " --bind 127.0.0.1 --port $port --save '' --daemonize no > log 2>&1 & p=$!; "
        "for i in $(seq 200); do grep -q 'eady to accept' log && break 2; "
        "kill -0 $p 2>/dev/null || break; sleep 0.05; done; done; "
        "unset LD_PRELOAD; " +
        benchmark +
        " -h 127.0.0.1 -p $port -n 2000 -c 8 -q -t set,get,lpush,hset > bench 2>&1; r=$?; "
        "kill $p; wait $p; echo $r $?; rm -rf $d";
    const Guarded guarded = run_guarded(strength, {"/bin/bash", "-c", script});
    EXPECT_EQ(guarded.ran.output, "0 0\n") << strength[0] << guarded.ran.errors;
    EXPECT_TRUE(guarded.reports.empty()) << guarded.reports[0];
  }
}

}  // namespace
}  // namespace pagetrap::guard::test

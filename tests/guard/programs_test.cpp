// Programs of others under guards, in each strength: the same output, and no report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "guarded.hpp"

namespace pagetrap::guard::test {
namespace {

constexpr const char* kSql = R"(
create table t(id integer primary key, name text, body text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
  insert into t select i, 'name-' || (i % 100), 'the quick brown fox ' || (i * 7919) from n;
create index t_name on t(name);
select count(*), sum(length(body)) from t;
update t set body = body || ' again' where id % 3 = 0;
select name, count(*), sum(length(body)) from t group by name order by name limit 5;
delete from t where id % 2 = 0;
vacuum;
select count(*), sum(id) from t;
)";

constexpr const char* kC = R"(
#include <stdio.h>
#include <stdlib.h>
struct node { struct node* left; struct node* right; int value; };
static struct node* insert(struct node* n, int v) {
  if (!n) { n = calloc(1, sizeof *n); n->value = v; return n; }
  if (v < n->value) n->left = insert(n->left, v); else n->right = insert(n->right, v);
  return n;
}
int main(void) { struct node* n = 0; for (int i = 0; i < 9; i++) n = insert(n, i * 7 % 11); return !n; }
)";

struct Subject {
  const char* name;
  const char* program;
  Words arguments;
  const char* input = "";
  Words options{};  // of run
};

class GuardedPrograms : public testing::TestWithParam<std::tuple<Subject, const char*>> {};

TEST_P(GuardedPrograms, PrintTheSame) {
  const auto& [subject, strength] = GetParam();
  const std::string program = preload::test::find_program(subject.program);
  if (program.empty()) GTEST_SKIP() << subject.program << " is not installed";
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
    {"sqlite", "sqlite3", {":memory:"}, kSql},
    {"python",
     "python3.11",
     {"-c",
      "d={str(i):[i,str(i)*2] for i in range(5000)}\n"
      "print(sum(v[0] for v in d.values()))"}},
    {"perl",
     "perl",
     {"-e",
      "my %h; $h{\"k$_\"}=[$_,\"v$_\"] for 1..5000; my $s=0;"
      "$s+=$h{\"k$_\"}[0] for 1..5000; print \"$s\\n\""}},
    {"lua", "lua5.4", {"-e", "local t={} for i=1,5000 do t[i]={i,tostring(i)} end print(#t)"}},
    {"bash",
     "bash",
     {"-c",
      "x=$(ls /usr/bin | wc -l); for i in 1 2 3; do echo $i | cat; done;"
      "echo $x $(echo a b c | tr a-z A-Z)"}},
    {"make",
     "bash",
     {"-c", "printf 'all: a b c\\na b c:\\n\\t@echo $@\\n' | make -j2 -f - | sort"}},
    {"git",
     "bash",
     {"-c",
      "d=$(mktemp -d) && cd $d && git init -q . && echo x > f && git add f && "
      "git -c user.name=n -c user.email=e commit -qm m && git log --format=%s;"
      "rm -rf $d"}},
    {"gzip", "bash", {"-c", "gzip -c /usr/bin/bash | md5sum"}},
    {"xz", "bash", {"-c", "xz -1 -c /usr/bin/ls | md5sum"}},
    {"openssl", "openssl", {"dgst", "-sha256", "/usr/bin/bash"}},
    {"cc1", "gcc", {"-x", "c", "-O1", "-S", "-o", "-", "-"}, kC},
    // LLVM keeps flags in four low bits of pointers.
    {"clang", "clang-14", {"-x", "c", "-O1", "-S", "-o", "-", "-"}, kC, {"--guard-align", "16"}},
    {"gdb", "gdb", {"-batch", "-ex", "info line main", "/usr/bin/bash"}},
    {"node", "node", {"-e", "console.log([1,2,3].map(x=>x*2).join())"}},
    {"cmake", "cmake", {"-E", "capabilities"}},
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
  if (server.empty() || benchmark.empty()) GTEST_SKIP() << "redis is not installed";
  for (const char* const strength : {"page", "page+cold", "alias", "sample"}) {
    const std::string script =
        "d=$(mktemp -d); cd $d; " + server +
        " --port 0 --unixsocket $d/s --save '' --daemonize no > log 2>&1 & p=$!; "
        "for i in $(seq 200); do [ -S $(echo $d/s) ] && break; sleep 0.1; done; "
        "unset LD_PRELOAD; " +
        benchmark +
        " -s $d/s -n 2000 -c 8 -q -t set,get,lpush,hset > bench 2>&1; r=$?; "
        "kill $p; wait $p; echo $r $?; rm -rf $d";
    const Guarded guarded = run_guarded({std::string("=") + strength}, {"/bin/bash", "-c", script});
    EXPECT_EQ(guarded.ran.output, "0 0\n") << guarded.ran.errors;
    EXPECT_TRUE(guarded.reports.empty()) << guarded.reports[0];
  }
}

}  // namespace
}  // namespace pagetrap::guard::test

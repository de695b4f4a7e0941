// Programs of others, with and without a budget: the same output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "support.hpp"

namespace pagetrap::preload::test {
namespace {

using testing::HasSubstr;

constexpr unsigned kNobody = 65534;

constexpr const char* kPython = R"(
import hashlib
n = 25000
people = {}
for i in range(n):
    people[f"user:{i:07d}"] = {"name": f"name-{i % 977}", "tags": [str(i % k) for k in range(2, 7)],
                               "score": i * 3.25}
digest, key = hashlib.sha256(), 12345
for step in range(n):
    key = (key * 1103515245 + 12345) % (1 << 31)
    person = people[f"user:{key % n:07d}"]
    person["score"] += step
    if step % 7 == 0: person["tags"].append(person["name"])
    digest.update(person["name"].encode())
for name, person in people.items():
    digest.update(repr((name, sorted(person.items(), key=lambda item: item[0]))).encode())
print(digest.hexdigest())
)";

constexpr const char* kSql = R"(
create table t(id integer primary key, name text, body text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 120000)
  insert into t select i, 'name-' || (i % 1000),
    'the quick brown fox ' || (i * 7919) || ' jumps over ' || hex(i * 31) from n;
create index t_name on t(name);
select count(*), sum(length(body)) from t;
select name, count(*), sum(id) from t where id % 13 = 5 group by name order by name limit 5;
update t set body = body || ' again' where id % 3 = 0;
select sum(length(body)), sum(id * length(name)) from t;
select * from t where id in (5, 77777, 119999);
delete from t where id % 2 = 0;
vacuum;
select count(*), sum(id) from t;
)";

constexpr const char* kNode = R"(
const crypto = require('crypto');
const people = new Map();
for (let i = 0; i < 200000; i++)
  people.set('user:' + i, {name: 'name-' + (i % 977), tags: [i, i * 2, String(i)], score: i * 3.25});
let key = 12345;
for (let step = 0; step < 200000; step++) {
  key = (key * 1103515245 + 12345) % 2147483648;
  const person = people.get('user:' + (key % 200000));
  person.score += step;
  if (step % 7 === 0) person.tags.push(person.name);
}
const hash = crypto.createHash('sha256');
for (const [name, person] of people) hash.update(name + JSON.stringify(person));
console.log(hash.digest('hex'));
)";

struct Subject {
  const char* name;
  const char* program;
  std::vector<std::string> arguments;
  const char* input;
  const char* memory;  // half of what it takes, or less
};

class Programs : public testing::TestWithParam<std::tuple<Subject, const char*>> {};

TEST_P(Programs, PrintTheSame) {
  const auto& [subject, delivery] = GetParam();
  const bool as_nobody = std::string(delivery) == "nobody";
  const std::string how = as_nobody ? "auto" : delivery;
  const unsigned uid = as_nobody ? kNobody : 0;
  const std::string program = find_program(subject.program);
  if (program.empty()) GTEST_SKIP() << subject.program << " is not installed";
  if (as_nobody && geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  if (const std::string reason = why_not(how, uid); !reason.empty()) GTEST_SKIP() << reason;
  Words words{program};
  words.insert(words.end(), subject.arguments.begin(), subject.arguments.end());
  const Ran plain = run(words, {.uid = uid, .input = subject.input});
  ASSERT_EQ(plain.status, 0) << plain.errors;
  const Ran ran = run(under(subject.memory, how, words), {.uid = uid, .input = subject.input});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.output, plain.output);
  EXPECT_THAT(ran.errors, HasSubstr("; evicted ")) << "there was no pressure";
}

INSTANTIATE_TEST_SUITE_P(
    Memory, Programs,
    testing::Combine(testing::Values(Subject{"python", "python3", {"-"}, kPython, "14M"},
                                     Subject{"sqlite", "sqlite3", {":memory:"}, kSql, "12M"},
                                     Subject{"node", "node", {"-"}, kNode, "40M"}),
                     testing::Values("threads", "signals", "nobody")),
    [](const auto& one) {
      return std::string(std::get<0>(one.param).name) + "_" + std::get<1>(one.param);
    });

}  // namespace
}  // namespace pagetrap::preload::test

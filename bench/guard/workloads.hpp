// What programs that allocate a lot are given to do: the benchmarks' and the tests'.
#pragma once

#include <string>

namespace pagetrap::bench::workloads {

/// For sqlite3's standard input, with a table of so many rows. It prints a few of its own making.
inline std::string sql(unsigned rows) {
  return "create table t(id integer primary key, name text, body text);\n"
         "with recursive n(i) as (select 1 union all select i + 1 from n where i < " +
         std::to_string(rows) +
         ")\n"
         "  insert into t select i, 'name-' || (i % 1000), 'the quick brown fox ' || (i * 7919) "
         "from n;\n"
         "create index t_name on t(name);\n"
         "select count(*), sum(length(body)) from t;\n"
         "update t set body = body || ' again' where id % 3 = 0;\n"
         "select name, count(*), sum(length(body)) from t group by name order by name limit 5;\n"
         "delete from t where id % 2 = 0;\n"
         "vacuum;\n"
         "select count(*), sum(id) from t;\n";
}

/// For perl -e: a hash of so many arrays.
inline std::string perl(unsigned entries) {
  const std::string n = std::to_string(entries);
  return "my %h; for my $i (1.." + n +
         ") { $h{\"k$i\"} = [$i, \"v$i\"] } my $s = 0;"
         "for my $i (1.." +
         n + ") { $s += $h{\"k$i\"}[0] } print \"$s\\n\"";
}

/// For python3 -c: a dictionary of so many lists.
inline std::string python(unsigned entries) {
  return "d = {str(i): [i, str(i) * 2] for i in range(" + std::to_string(entries) +
         ")}\n"
         "print(sum(v[0] for v in d.values()))";
}

/// For lua -e: a tree of 2^depth tables, and so many strings.
inline std::string lua(unsigned depth, unsigned strings) {
  return "local function tree(n) if n == 0 then return {} end return {tree(n-1), tree(n-1)} end "
         "local t = tree(" +
         std::to_string(depth) + ") local s = {} for i = 1, " + std::to_string(strings) +
         " do s[#s+1] = 'text ' .. i end print(#s)";
}

/// For a C compiler.
inline std::string c(unsigned functions) {
  std::string text = "int printf(const char*, ...);\n";
  for (unsigned i = 0; i < functions; ++i) {
    const std::string n = std::to_string(i);
    text += "int f" + n;
    text += "(int a, int b) { int s = 0; for (int i = 0; i < a; i++) { s += b * i; if (s % 7 == ";
    text += std::to_string(i % 7);
    text += ") s ^= a; } return s + (a > b ? a * " + n;
    text += " : b); }\n";
  }
  return text;
}

}  // namespace pagetrap::bench::workloads

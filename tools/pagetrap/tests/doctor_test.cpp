// pagetrap doctor --json, read by another JSON library than the one that wrote it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "run_command.hpp"

namespace pagetrap::tool::test {
namespace {

using nlohmann::json;

constexpr unsigned kNobody = 65534;

/// What holds on every machine and for every user.
void check_examination(const json& seen) {
  EXPECT_EQ(seen.at("schema"), "pagetrap-doctor/1");
  EXPECT_EQ(seen.at("machine").at("page_bytes"), sysconf(_SC_PAGESIZE));
  EXPECT_FALSE(seen.at("features").empty());
  for (const json& feature : seen.at("features")) {
    if (feature.at("available")) continue;
    EXPECT_NE(feature.at("remedy"), "") << feature.at("id");
    EXPECT_NE(feature.at("fallback"), "") << feature.at("id");
  }

  std::set<std::string> served;
  for (const json& primitive : seen.at("primitives")) {
    EXPECT_NE(primitive.at("mechanism"), "") << primitive.at("id");
    if (primitive.at("served")) {
      served.insert(primitive.at("id"));
      EXPECT_FALSE(primitive.at("costs_ns").empty()) << primitive.at("id");
      for (const auto& [what, cost] : primitive.at("costs_ns").items()) {
        EXPECT_GT(cost.get<double>(), 0) << primitive.at("id") << ": " << what;
      }
    } else {
      EXPECT_NE(primitive.at("problem"), "") << primitive.at("id");
    }
  }
  // Whatever the kernel, these can be served: if by nothing else, by mprotect and memfd.
  for (const char* const id : {"TRAP", "PROT1", "PROTN", "UNPROT", "DIRTY", "MAP2", "guard"}) {
    EXPECT_TRUE(served.contains(id)) << id;
  }

  for (const json& backend : seen.at("backends")) {
    if (backend.at("available")) continue;
    EXPECT_NE(backend.at("reason"), "") << backend.at("name");
    EXPECT_NE(backend.at("remedy"), "") << backend.at("name");
  }
  for (const json& call : seen.at("system_calls")) {
    EXPECT_TRUE(call.at("as_predicted")) << call;
  }
  EXPECT_TRUE(seen.at("contradictions").empty()) << seen.at("contradictions");
}

TEST(Doctor, WritesJsonThatOthersRead) {
  const Ran ran = run_command({"doctor", "--json"});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.errors, "");
  check_examination(json::parse(ran.output));
}

TEST(Doctor, WorksForAnOrdinaryUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  const Ran ran = run_command({"doctor", "--json"}, kNobody);
  EXPECT_EQ(ran.status, 0) << ran.errors;
  const json seen = json::parse(ran.output);
  check_examination(seen);
  EXPECT_EQ(seen.at("user").at("uid"), kNobody);
  EXPECT_TRUE(seen.at("user").at("capabilities").empty());
}

TEST(Doctor, TellsPeopleTheSame) {
  const Ran ran = run_command({"doctor"});
  EXPECT_EQ(ran.status, 0) << ran.output;
  for (const char* const word :
       {"Machine", "Features", "Backends", "TRAP", "MAP2", "as predicted", "works as predicted"}) {
    EXPECT_THAT(ran.output, testing::HasSubstr(word));
  }
}

}  // namespace
}  // namespace pagetrap::tool::test

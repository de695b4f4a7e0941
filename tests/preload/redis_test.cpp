// redis-server under less than half of its memory: what a fork()ed child saves while the parent
// goes on is the data set of that instant, and loads again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "redis_client.hpp"
#include "support.hpp"

namespace pagetrap::preload::test {
namespace {

constexpr unsigned kNobody = 65534;

struct Server {
  Server(const std::string& program, const std::string& folder, const std::string& delivery,
         unsigned uid)
      : port(free_port()) {
    const Words plain{program,      "--port",    std::to_string(port),
                      "--bind",     "127.0.0.1", "--save",
                      "",           "--dir",     folder,
                      "--loglevel", "warning",   "--enable-debug-command",
                      "yes"};
    process =
        std::make_unique<Process>(delivery.empty() ? plain : under("10M", delivery, plain), uid);
    client = std::make_unique<RedisClient>(port);
  }
  Ran stop() {
    client->tell({"SHUTDOWN", "NOSAVE"});
    return process->finish("", 20);
  }
  unsigned short port;
  std::unique_ptr<Process> process;
  std::unique_ptr<RedisClient> client;
};

std::string value(int i) {
  const std::string number = std::to_string(i);
  std::string text = R"({"id":)" + number + R"(,"name":"user name )" + std::to_string(i % 977) +
                     R"(","email":"user)" + number +
                     R"(@example.org","tags":["alpha","beta"],"bio":")";
  for (int part = 0; part < 4; ++part)
    text += "likes long walks number " + std::to_string(i * 79) + " ";
  return text + "\"}";
}

void load(RedisClient& client, int count) {
  for (int first = 0; first < count; first += 1000) {
    std::vector<std::vector<std::string>> commands;
    for (int i = first; i < first + 1000; ++i) {
      commands.push_back({"SET", "key:" + std::to_string(i), value(i)});
      if (i % 3 == 0)
        commands.push_back({"HSET", "hash:" + std::to_string(i % 500), std::to_string(i), "x"});
    }
    client.ask_all(commands);
  }
}

class Redis : public testing::TestWithParam<const char*> {};

TEST_P(Redis, SavesWhatItHad) {
  const bool as_nobody = std::string(GetParam()) == "nobody";
  const std::string delivery = as_nobody ? "auto" : GetParam();
  const unsigned uid = as_nobody ? kNobody : 0;
  const std::string program = find_program("redis-server");
  if (program.empty()) GTEST_SKIP() << "redis-server is not installed";
  if (as_nobody && geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  if (const std::string reason = why_not(delivery, uid); !reason.empty()) GTEST_SKIP() << reason;

  std::string folder = testing::TempDir() + "pagetrap-redis-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(uid == 0 ? 0 : chown(folder.c_str(), uid, uid), 0);
  std::string digest;
  {
    Server server(program, folder, delivery, uid);
    load(*server.client, 50000);
    digest = server.client->ask({"DEBUG", "DIGEST"});
    ASSERT_EQ(digest.size(), 40U) << digest;
    ASSERT_EQ(server.client->ask({"BGSAVE"}), "Background saving started");
    // The child must not see these.
    std::string state;
    for (int i = 0; i < 20000; ++i) {
      server.client->ask({"SET", "key:" + std::to_string(i * 97 % 50000), "changed"});
      state = server.client->ask({"INFO", "persistence"});
      if (state.find("rdb_bgsave_in_progress:0") != std::string::npos) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_THAT(state, testing::HasSubstr("rdb_last_bgsave_status:ok"));
    EXPECT_NE(server.client->ask({"DEBUG", "DIGEST"}), digest);
    const Ran ran = server.stop();
    EXPECT_EQ(ran.status, 0) << ran.errors;
    EXPECT_THAT(ran.errors, testing::HasSubstr("; evicted "));
  }
  for (const std::string& how : {std::string(), delivery}) {
    Server server(program, folder, how, uid);
    EXPECT_EQ(server.client->ask({"DEBUG", "DIGEST"}), digest) << "reloaded " << how;
    EXPECT_EQ(server.client->ask({"GET", "key:777"}), value(777));
    EXPECT_EQ(server.stop().status, 0);
  }
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(Memory, Redis, testing::Values("threads", "signals", "nobody"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace pagetrap::preload::test

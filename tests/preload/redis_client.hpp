// As much of a Redis client as the test needs.
#pragma once

#include <string>
#include <vector>

namespace pagetrap::preload::test {

class RedisClient {
 public:
  /// Waits until the server on that port of the loopback answers and has loaded its data.
  explicit RedisClient(unsigned short port);
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  /// The reply as text; errors begin with '-'.
  std::string ask(const std::vector<std::string>& words);
  /// Many commands at once, each of which must be answered without an error.
  void ask_all(const std::vector<std::vector<std::string>>& commands);
  /// Sends, and expects no answer.
  void tell(const std::vector<std::string>& words);

 private:
  std::string reply();
  char next();
  std::string line();
  int socket_ = -1;
  std::string buffer_;
  std::size_t used_ = 0;
};

/// Nobody listens there now.
unsigned short free_port();

}  // namespace pagetrap::preload::test

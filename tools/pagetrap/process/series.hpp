// Series: the checkpoints of one process, in a thread of its own, which is the tracer.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/checkpoint/process.hpp>

#include "requests.hpp"

namespace pagetrap::tool::process {

class Series {
 public:
  /// `report`: a JSON line for each checkpoint is appended to this file; - is standard error.
  /// `first`: what has to be done before the first one; may be empty.
  Series(pid_t process, checkpoint::ProcessSaverOptions options, std::string report,
         std::function<void()> first);
  ~Series();
  Series(const Series&) = delete;
  Series& operator=(const Series&) = delete;

  /// Takes it over, and answers when it is done.
  void add(const Request& request);

 private:
  struct Hooks {
    std::uint64_t address = 0;
    int event = -1;
  };
  void run();
  std::string take(checkpoint::ProcessSaver& saver, bool full,
                   const std::vector<std::uint64_t>& wishes, const Hooks& hooks);
  void prepare(checkpoint::ProcessSaver& saver, const Hooks& hooks) const;
  void report(const std::string& line) const;

  const pid_t process_;
  const checkpoint::ProcessSaverOptions options_;
  const std::string report_;
  const std::function<void()> first_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<int> requesters_;
  std::vector<std::uint64_t> wishes_;  // words of threads that wait in checkpoint()
  Hooks hooks_;
  bool full_ = false;
  bool over_ = false;
  std::string said_;
  std::thread thread_;
};

}  // namespace pagetrap::tool::process

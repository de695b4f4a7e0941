// pagetrap checkpoint PID: of a process that `pagetrap run --checkpoint` or `restart` watches over;
// or of any other, once.
#include <cstdio>
#include <string>

#include "../run/launch.hpp"
#include "options.hpp"
#include "requests.hpp"
#include "statistics.hpp"

namespace pagetrap::tool {
namespace {

int say(const std::string& answer, bool json) {
  if (answer.starts_with("{")) {
    if (json) {
      std::fputs(answer.c_str(), stdout);
    } else {
      const auto begin = answer.find("\"file\": \"");
      const auto end = begin == std::string::npos ? begin : answer.find('"', begin + 9);
      std::printf("%s\n", answer.substr(begin + 9, end - begin - 9).c_str());
    }
    return kOk;
  }
  std::fprintf(stderr, "pagetrap: checkpoint: %s", answer.c_str());
  return kUnable;
}

}  // namespace

int checkpoint_process(const CheckpointRequest& request) {
  if (request.directory.empty()) {
    const std::string answer = process::ask_for_checkpoint(request.process, request.full);
    if (!answer.empty()) return say(answer, request.json);
    return launch::unable(
        "checkpoint: nobody watches over process " + std::to_string(request.process),
        "Run it with `pagetrap run --checkpoint DIR -- PROGRAM`, or say --into DIR.");
  }
  std::optional<checkpoint::ProcessSaverOptions> options;
  if (const std::string wrong = process::saver_options(request, options); !wrong.empty())
    return launch::usage("checkpoint: " + wrong);
  auto saver = checkpoint::ProcessSaver::attach(request.process, *options);
  if (!saver)
    return launch::unable("checkpoint: " + describe(saver.error()), "Is it there, and yours?");
  const auto taken = saver->checkpoint();
  if (taken) return say(process::json_of(*taken) + "\n", request.json);
  std::string answer = "error: " + describe(taken.error()) + "\n";
  for (const std::string& line : saver->refusals()) answer += "refused: " + line + "\n";
  return say(answer, false);
}

}  // namespace pagetrap::tool

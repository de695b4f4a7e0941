#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "stage.hpp"

namespace subject {

std::vector<Scenario>& all_scenarios() {
  static std::vector<Scenario> all;
  return all;
}

long must(long result, const char* what) {
  if (result >= 0) return result;
  std::fprintf(stderr, "subject: %s: %s\n", what, std::strerror(errno));
  std::_Exit(4);
}

void sleep_ms(int milliseconds) {
  timespec left{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string proc_field(const std::string& path, const std::string& key) {
  std::istringstream lines(contents_of(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key + ":")) continue;
    const std::size_t begin = line.find_first_not_of(" \t", key.size() + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

void Stage::expect(bool truth, const std::string& what, const char* path, int line) {
  if (truth) return;
  const std::string name = path;
  wrong_ += name.substr(name.rfind('/') + 1) + ":" + std::to_string(line) + ": " + what + "\n";
}

void Stage::say(const std::string& name, const std::string& words) const {
  const std::string aside = file(name + ".new");
  {
    std::ofstream out(aside);
    out << words;
  }
  must(::rename(aside.c_str(), file(name).c_str()), "rename");
}

bool Stage::was_told(const std::string& name) const {
  return ::access(file(name).c_str(), F_OK) == 0;
}

void Stage::wait_for(const std::string& name) const {
  while (!was_told(name)) sleep_ms(1);
}

void Stage::wait_for_go() {
  say("ready");
  wait_for("go");
  run_ = contents_of(file("go"));
}

void Stage::skip(const std::string& why) const {
  say("skip", why);
  std::_Exit(77);
}

void Stage::obstacle(const std::string& line, const std::function<void()>& take_away) {
  say("line", line);
  say("ready");
  wait_for("take-away");
  take_away();
  say("taken-away");
  wait_for("go");
  run_ = contents_of(file("go"));
}

int Stage::verdict() const {
  say("verdict." + run_, wrong_.empty() ? "right" : wrong_);
  return wrong_.empty() ? 0 : 1;
}

}  // namespace subject

int main(int count, char** words) {
  if (count < 3) return 2;
  subject::Stage stage(words[2]);
  for (const subject::Scenario& scenario : subject::all_scenarios()) {
    if (std::strcmp(scenario.name, words[1]) != 0) continue;
    scenario.play(stage);
    return stage.verdict();
  }
  std::fprintf(stderr, "subject: no scenario %s\n", words[1]);
  return 2;
}

// Runs the pagetrap command and keeps what it says.
#pragma once

#include <string>
#include <vector>

namespace pagetrap::tool::test {

struct Ran {
  int status = -1;  // exit status; 128 + signal if it was killed
  std::string output;
  std::string errors;
};

/// `arguments` after the command's name. As uid `uid`, with no group and no capability, if that is
/// not 0: only root can ask for it.
Ran run_command(const std::vector<std::string>& arguments, unsigned uid = 0);

/// As the pagetrap command, but the program at `path`.
Ran run_program(const std::string& path, const std::vector<std::string>& arguments,
                unsigned uid = 0);

}  // namespace pagetrap::tool::test

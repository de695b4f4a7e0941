// The machine code of a function of this very program, by objdump.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace pagetrap::test {

/// objdump's text; of a function that is there it holds a "ret". Empty: no objdump.
inline std::string disassembly_of(const char* function) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = std::string("objdump -d --no-show-raw-insn --disassemble=") +
                              function + " '" + program + "' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) text += buffer.data();
  return text;
}

/// Its instructions with their operands. A line is "  address:<tab>name operands".
inline std::vector<std::string> instructions_of(const std::string& disassembly) {
  std::vector<std::string> instructions;
  std::istringstream lines(disassembly);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t tab = line.find('\t');
    if (tab != std::string::npos) instructions.push_back(line.substr(tab + 1));
  }
  return instructions;
}

inline std::string name_of_instruction(const std::string& instruction) {
  return instruction.substr(0, instruction.find_first_of(" \n"));
}

}  // namespace pagetrap::test

// Starting programs: the kernel reads the words and the environment where they are, in a child that
// could not bring them.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

namespace {

using Words = char* const*;

constinit Real<int(const char*, Words, Words)> real_execve("execve");
constinit Real<int(const char*, Words)> real_execv("execv");
constinit Real<int(const char*, Words)> real_execvp("execvp");
constinit Real<int(const char*, Words, Words)> real_execvpe("execvpe");
using Spawn = int(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                  Words, Words);
constinit Real<Spawn> real_spawn("posix_spawn");
constinit Real<Spawn> real_spawnp("posix_spawnp");
constinit Real<int(const char*)> real_system("system");
constinit Real<FILE*(const char*, const char*)> real_popen("popen");

/// Not held, but touched last: they are the youngest of all.
void bring(Words words) noexcept {
  if (keeper == nullptr || !keeper->active() || !keeper->needs_holds()) return;
  for (; words != nullptr && *words != nullptr; ++words) {
    const Buffer word = text(*words);
    if (word.size != 0) touch(pagetrap::pages_covering(word.base, word.size));
  }
}

}  // namespace

PAGETRAP_EXPORT int execve(const char* path, Words words, Words environment) noexcept {
  bring(words);
  bring(environment);
  return holding({text(path)}, [&] { return real_execve(path, words, environment); });
}
PAGETRAP_EXPORT int execv(const char* path, Words words) noexcept {
  bring(words);
  bring(environ);
  return holding({text(path)}, [&] { return real_execv(path, words); });
}
PAGETRAP_EXPORT int execvp(const char* file, Words words) noexcept {
  bring(words);
  bring(environ);
  return holding({text(file)}, [&] { return real_execvp(file, words); });
}
PAGETRAP_EXPORT int execvpe(const char* file, Words words, Words environment) noexcept {
  bring(words);
  bring(environment);
  return holding({text(file)}, [&] { return real_execvpe(file, words, environment); });
}
PAGETRAP_EXPORT int posix_spawn(pid_t* child, const char* path,
                                const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, Words words,
                                Words environment) {
  bring(words);
  bring(environment);
  return holding({text(path), object(child)},
                 [&] { return real_spawn(child, path, actions, attributes, words, environment); });
}
PAGETRAP_EXPORT int posix_spawnp(pid_t* child, const char* file,
                                 const posix_spawn_file_actions_t* actions,
                                 const posix_spawnattr_t* attributes, Words words,
                                 Words environment) {
  bring(words);
  bring(environment);
  return holding({text(file), object(child)},
                 [&] { return real_spawnp(child, file, actions, attributes, words, environment); });
}
PAGETRAP_EXPORT int system(const char* command) {
  bring(environ);
  return holding({text(command)}, [&] { return real_system(command); });
}
PAGETRAP_EXPORT FILE* popen(const char* command, const char* mode) {
  bring(environ);
  return holding({text(command), text(mode)}, [&] { return real_popen(command, mode); });
}

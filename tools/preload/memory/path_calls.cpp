// As system_calls.cpp: calls with names of files, and small structures.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

static constinit Real<int(const char*, struct stat*)> real_stat("stat");
PAGETRAP_EXPORT int stat(const char* path, struct stat* to) noexcept {
  return holding({text(path), object(to)}, [&] { return real_stat(path, to); });
}

static constinit Real<int(const char*, struct stat64*)> real_stat64("stat64");
PAGETRAP_EXPORT int stat64(const char* path, struct stat64* to) noexcept {
  return holding({text(path), object(to)}, [&] { return real_stat64(path, to); });
}

static constinit Real<int(const char*, struct stat*)> real_lstat("lstat");
PAGETRAP_EXPORT int lstat(const char* path, struct stat* to) noexcept {
  return holding({text(path), object(to)}, [&] { return real_lstat(path, to); });
}

static constinit Real<int(const char*, struct stat64*)> real_lstat64("lstat64");
PAGETRAP_EXPORT int lstat64(const char* path, struct stat64* to) noexcept {
  return holding({text(path), object(to)}, [&] { return real_lstat64(path, to); });
}

static constinit Real<int(int, struct stat*)> real_fstat("fstat");
PAGETRAP_EXPORT int fstat(int file, struct stat* to) noexcept {
  return holding({object(to)}, [&] { return real_fstat(file, to); });
}

static constinit Real<int(int, struct stat64*)> real_fstat64("fstat64");
PAGETRAP_EXPORT int fstat64(int file, struct stat64* to) noexcept {
  return holding({object(to)}, [&] { return real_fstat64(file, to); });
}

static constinit Real<int(int, const char*, struct stat*, int)> real_fstatat("fstatat");
PAGETRAP_EXPORT int fstatat(int folder, const char* path, struct stat* to, int flags) noexcept {
  return holding({text(path), object(to)}, [&] { return real_fstatat(folder, path, to, flags); });
}

static constinit Real<int(int, const char*, struct stat64*, int)> real_fstatat64("fstatat64");
PAGETRAP_EXPORT int fstatat64(int folder, const char* path, struct stat64* to, int flags) noexcept {
  return holding({text(path), object(to)}, [&] { return real_fstatat64(folder, path, to, flags); });
}

static constinit Real<int(int, const char*, int, unsigned, struct statx*)> real_statx("statx");
PAGETRAP_EXPORT int statx(int folder, const char* path, int flags, unsigned mask,
                          struct statx* to) noexcept {
  return holding({text(path), object(to)},
                 [&] { return real_statx(folder, path, flags, mask, to); });
}

static constinit Real<int(const char*, int)> real_access("access");
PAGETRAP_EXPORT int access(const char* path, int mode) noexcept {
  return holding({text(path)}, [&] { return real_access(path, mode); });
}

static constinit Real<int(int, const char*, int, int)> real_faccessat("faccessat");
PAGETRAP_EXPORT int faccessat(int folder, const char* path, int mode, int flags) noexcept {
  return holding({text(path)}, [&] { return real_faccessat(folder, path, mode, flags); });
}

static constinit Real<ssize_t(const char*, char*, size_t)> real_readlink("readlink");
PAGETRAP_EXPORT ssize_t readlink(const char* path, char* to, size_t size) noexcept {
  return holding({text(path), {to, size}}, [&] { return real_readlink(path, to, size); });
}

static constinit Real<ssize_t(const char*, char*, size_t, size_t)> real___readlink_chk(
    "__readlink_chk");
PAGETRAP_EXPORT ssize_t __readlink_chk(const char* path, char* to, size_t size, size_t room) {
  return holding({text(path), {to, size}},
                 [&] { return real___readlink_chk(path, to, size, room); });
}

static constinit Real<ssize_t(int, const char*, char*, size_t)> real_readlinkat("readlinkat");
PAGETRAP_EXPORT ssize_t readlinkat(int folder, const char* path, char* to, size_t size) noexcept {
  return holding({text(path), {to, size}}, [&] { return real_readlinkat(folder, path, to, size); });
}

static constinit Real<char*(char*, size_t)> real_getcwd("getcwd");
PAGETRAP_EXPORT char* getcwd(char* to, size_t size) noexcept {
  return holding({{to, to != nullptr ? size : 0}}, [&] { return real_getcwd(to, size); });
}

static constinit Real<int(const char*)> real_unlink("unlink");
PAGETRAP_EXPORT int unlink(const char* path) noexcept {
  return holding({text(path)}, [&] { return real_unlink(path); });
}

static constinit Real<int(int, const char*, int)> real_unlinkat("unlinkat");
PAGETRAP_EXPORT int unlinkat(int folder, const char* path, int flags) noexcept {
  return holding({text(path)}, [&] { return real_unlinkat(folder, path, flags); });
}

static constinit Real<int(const char*, const char*)> real_rename("rename");
PAGETRAP_EXPORT int rename(const char* from, const char* to) noexcept {
  return holding({text(from), text(to)}, [&] { return real_rename(from, to); });
}

static constinit Real<int(int, const char*, int, const char*)> real_renameat("renameat");
PAGETRAP_EXPORT int renameat(int folder, const char* from, int folder2, const char* to) noexcept {
  return holding({text(from), text(to)}, [&] { return real_renameat(folder, from, folder2, to); });
}

static constinit Real<int(const char*, mode_t)> real_mkdir("mkdir");
PAGETRAP_EXPORT int mkdir(const char* path, mode_t mode) noexcept {
  return holding({text(path)}, [&] { return real_mkdir(path, mode); });
}

static constinit Real<int(const char*)> real_rmdir("rmdir");
PAGETRAP_EXPORT int rmdir(const char* path) noexcept {
  return holding({text(path)}, [&] { return real_rmdir(path); });
}

static constinit Real<int(const char*)> real_chdir("chdir");
PAGETRAP_EXPORT int chdir(const char* path) noexcept {
  return holding({text(path)}, [&] { return real_chdir(path); });
}

static constinit Real<int(const char*, mode_t)> real_chmod("chmod");
PAGETRAP_EXPORT int chmod(const char* path, mode_t mode) noexcept {
  return holding({text(path)}, [&] { return real_chmod(path, mode); });
}

static constinit Real<int(const char*, const char*)> real_link("link");
PAGETRAP_EXPORT int link(const char* from, const char* to) noexcept {
  return holding({text(from), text(to)}, [&] { return real_link(from, to); });
}

static constinit Real<int(const char*, const char*)> real_symlink("symlink");
PAGETRAP_EXPORT int symlink(const char* from, const char* to) noexcept {
  return holding({text(from), text(to)}, [&] { return real_symlink(from, to); });
}

static constinit Real<int(const char*, off_t)> real_truncate("truncate");
PAGETRAP_EXPORT int truncate(const char* path, off_t size) noexcept {
  return holding({text(path)}, [&] { return real_truncate(path, size); });
}

static constinit Real<DIR*(const char*)> real_opendir("opendir");
PAGETRAP_EXPORT DIR* opendir(const char* path) {
  return holding({text(path)}, [&] { return real_opendir(path); });
}

static constinit Real<FILE*(const char*, const char*)> real_fopen("fopen");
PAGETRAP_EXPORT FILE* fopen(const char* path, const char* mode) {
  return holding({text(path), text(mode)}, [&] { return real_fopen(path, mode); });
}

static constinit Real<FILE*(const char*, const char*)> real_fopen64("fopen64");
PAGETRAP_EXPORT FILE* fopen64(const char* path, const char* mode) {
  return holding({text(path), text(mode)}, [&] { return real_fopen64(path, mode); });
}

static constinit Real<char*(const char*, char*)> real_realpath("realpath");
PAGETRAP_EXPORT char* realpath(const char* path, char* to) noexcept {
  return holding({text(path)}, [&] { return real_realpath(path, to); });
}

static constinit Real<pid_t(pid_t, int*, int)> real_waitpid("waitpid");
PAGETRAP_EXPORT pid_t waitpid(pid_t child, int* status, int options) {
  return holding({object(status)}, [&] { return real_waitpid(child, status, options); });
}

static constinit Real<int(const timespec*, timespec*)> real_nanosleep("nanosleep");
PAGETRAP_EXPORT int nanosleep(const timespec* wanted, timespec* left) {
  return holding({object(wanted), object(left)}, [&] { return real_nanosleep(wanted, left); });
}

static constinit Real<int(const sigset_t*, int*)> real_sigwait("sigwait");
PAGETRAP_EXPORT int sigwait(const sigset_t* set, int* which) {
  return holding({object(set), object(which)}, [&] { return real_sigwait(set, which); });
}

// --- with a mode, if there is one -------------------------------------------------------------

namespace {

constinit Real<int(int, const char*, int, ...)> real_openat("openat64");

int open_at(int folder, const char* path, int flags, mode_t mode) {
  return holding({text(path)}, [&] { return real_openat(folder, path, flags, mode); });
}

mode_t mode_of(int flags, va_list rest) {
  const bool has_mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return has_mode ? static_cast<mode_t>(va_arg(rest, int)) : 0;
}

}  // namespace

PAGETRAP_EXPORT int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
PAGETRAP_EXPORT int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
PAGETRAP_EXPORT int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(folder, path, flags, mode);
}
PAGETRAP_EXPORT int openat64(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(folder, path, flags, mode);
}

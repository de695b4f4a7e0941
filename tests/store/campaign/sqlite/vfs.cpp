#include "store/campaign/sqlite/vfs.hpp"

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace campaign {

namespace {

struct OpenFile {
  sqlite3_file base;  // first: SQLite knows no more of it
  Vfs* vfs;
  File file;
};

OpenFile& opened(sqlite3_file* file) { return *reinterpret_cast<OpenFile*>(file); }
RecordedFiles& files_of(sqlite3_file* file) { return opened(file).vfs->files(); }
Vfs& vfs_of(sqlite3_vfs* vfs) { return *static_cast<Vfs*>(vfs->pAppData); }

File file_named(std::string_view name) {
  if (name.ends_with("-journal")) return File::journal;
  return name.ends_with("-wal") ? File::log : File::database;
}

int close(sqlite3_file* /*file*/) noexcept { return SQLITE_OK; }

int read(sqlite3_file* file, void* to, int length, sqlite3_int64 offset) noexcept {
  const std::span bytes(static_cast<std::byte*>(to), static_cast<std::size_t>(length));
  return files_of(file).read(opened(file).file, bytes, static_cast<std::uint64_t>(offset))
             ? SQLITE_OK
             : SQLITE_IOERR_SHORT_READ;
}

int write(sqlite3_file* file, const void* from, int length, sqlite3_int64 offset) noexcept {
  const std::span bytes(static_cast<const std::byte*>(from), static_cast<std::size_t>(length));
  return files_of(file).write(opened(file).file, bytes, static_cast<std::uint64_t>(offset))
             ? SQLITE_OK
             : SQLITE_FULL;
}

int truncate(sqlite3_file* file, sqlite3_int64 length) noexcept {
  if (length < files_of(file).length(opened(file).file))
    files_of(file).truncate(opened(file).file, length);
  return SQLITE_OK;
}

int sync(sqlite3_file* file, int /*flags*/) noexcept {
  files_of(file).flush(opened(file).file);
  return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* size) noexcept {
  *size = files_of(file).length(opened(file).file);
  return SQLITE_OK;
}

int lock(sqlite3_file* /*file*/, int /*kind*/) noexcept { return SQLITE_OK; }

int check_reserved_lock(sqlite3_file* /*file*/, int* held) noexcept {
  *held = 0;
  return SQLITE_OK;
}

int file_control(sqlite3_file* /*file*/, int /*what*/, void* /*argument*/) noexcept {
  return SQLITE_NOTFOUND;
}

int sector_size(sqlite3_file* /*file*/) noexcept { return 512; }

int device_characteristics(sqlite3_file* file) noexcept {
  return opened(file).vfs->powersafe() ? SQLITE_IOCAP_POWERSAFE_OVERWRITE : 0;
}

constexpr sqlite3_io_methods methods() {
  sqlite3_io_methods made{};
  made.iVersion = 1;  // no shared memory, no mappings
  made.xClose = close;
  made.xRead = read;
  made.xWrite = write;
  made.xTruncate = truncate;
  made.xSync = sync;
  made.xFileSize = file_size;
  made.xLock = lock;
  made.xUnlock = lock;
  made.xCheckReservedLock = check_reserved_lock;
  made.xFileControl = file_control;
  made.xSectorSize = sector_size;
  made.xDeviceCharacteristics = device_characteristics;
  return made;
}
constexpr sqlite3_io_methods kMethods = methods();

int open(sqlite3_vfs* vfs, sqlite3_filename name, sqlite3_file* file, int flags,
         int* flags_now) noexcept {
  file->pMethods = nullptr;
  if (name == nullptr) return SQLITE_CANTOPEN;  // temporary files: there are none
  RecordedFiles& files = vfs_of(vfs).files();
  const File which = file_named(name);
  if (!files.exists(which)) {
    if ((flags & SQLITE_OPEN_CREATE) == 0) return SQLITE_CANTOPEN;
    files.create(which);
  }
  opened(file).vfs = &vfs_of(vfs);
  opened(file).file = which;
  file->pMethods = &kMethods;
  if (flags_now != nullptr) *flags_now = flags;
  return SQLITE_OK;
}

int remove(sqlite3_vfs* vfs, const char* name, int /*sync_directory*/) noexcept {
  RecordedFiles& files = vfs_of(vfs).files();
  if (!files.exists(file_named(name))) return SQLITE_IOERR_DELETE_NOENT;
  files.remove(file_named(name));
  return SQLITE_OK;
}

int access(sqlite3_vfs* vfs, const char* name, int /*flags*/, int* yes) noexcept {
  *yes = vfs_of(vfs).files().exists(file_named(name)) ? 1 : 0;
  return SQLITE_OK;
}

int full_pathname(sqlite3_vfs* /*vfs*/, const char* name, int room, char* path) noexcept {
  const int length = std::snprintf(path, static_cast<std::size_t>(room), "%s", name);
  return length < room ? SQLITE_OK : SQLITE_CANTOPEN;
}

int randomness(sqlite3_vfs* vfs, int length, char* to) noexcept {
  for (int i = 0; i < length; ++i) to[i] = static_cast<char>(vfs_of(vfs).random()());
  return length;
}

int sleep(sqlite3_vfs* /*vfs*/, int microseconds) noexcept { return microseconds; }

int current_time(sqlite3_vfs* /*vfs*/, double* julian_day) noexcept {
  *julian_day = 2'448'348.5;  // 1991; a run does not depend on the day
  return SQLITE_OK;
}

int last_error(sqlite3_vfs* /*vfs*/, int /*room*/, char* /*text*/) noexcept { return 0; }

}  // namespace

Vfs::Vfs(std::uint64_t seed, bool powersafe) : powersafe_(powersafe), random_(seed) {
  vfs_.iVersion = 1;
  vfs_.szOsFile = sizeof(OpenFile);
  vfs_.mxPathname = 100;
  vfs_.zName = "pagetrap-campaign";
  vfs_.pAppData = this;
  vfs_.xOpen = open;
  vfs_.xDelete = remove;
  vfs_.xAccess = access;
  vfs_.xFullPathname = full_pathname;
  vfs_.xRandomness = randomness;
  vfs_.xSleep = sleep;
  vfs_.xCurrentTime = current_time;
  vfs_.xGetLastError = last_error;
  if (sqlite3_vfs_register(&vfs_, 1) != SQLITE_OK) throw std::runtime_error("sqlite3_vfs_register");
  // Salts of its logs are to follow from the seed: it asks the default for them, once.
  sqlite3_randomness(0, nullptr);
}

Vfs::~Vfs() { sqlite3_vfs_unregister(&vfs_); }

}  // namespace campaign

// SQLite, opened by name in the measuring process: the command needs it neither to be built nor to
// run.
#pragma once

namespace pagetrap::bench {

// As in sqlite3.h.
struct sqlite3;
struct sqlite3_stmt;

struct Sqlite {
  static constexpr int kOk = 0;
  static constexpr int kRow = 100;
  static constexpr int kDone = 101;
  static constexpr int kConfigSingleThread = 1;
  static constexpr int kConfigPageCache = 7;
  static constexpr int kConfigPageCacheHeader = 24;
  static constexpr int kStatusPageCacheOverflow = 2;

  /// False if it is not installed.
  bool open_library() noexcept;

  int (*config)(int what, ...) = nullptr;
  int (*status)(int what, int* now, int* highest, int reset) = nullptr;
  int (*open)(const char* name, sqlite3** database) = nullptr;
  int (*exec)(sqlite3* database, const char* text, int (*row)(void*, int, char**, char**), void*,
              char** error) = nullptr;
  int (*prepare)(sqlite3* database, const char* text, int length, sqlite3_stmt** statement,
                 const char** rest) = nullptr;
  int (*bind_integer)(sqlite3_stmt* statement, int place, long long value) = nullptr;
  int (*bind_text)(sqlite3_stmt* statement, int place, const char* text, int length,
                   void (*destroy)(void*)) = nullptr;
  int (*step)(sqlite3_stmt* statement) = nullptr;
  int (*reset)(sqlite3_stmt* statement) = nullptr;
  long long (*column_integer)(sqlite3_stmt* statement, int column) = nullptr;
  const unsigned char* (*column_text)(sqlite3_stmt* statement, int column) = nullptr;
  int (*column_bytes)(sqlite3_stmt* statement, int column) = nullptr;
};

}  // namespace pagetrap::bench

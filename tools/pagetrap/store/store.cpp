// store stat, check, dump and compact: a store's file, looked at and written anew.
#include <string.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>

#include <pagetrap/store/inspect.hpp>

#include "../commands.hpp"
#include "../text/json_writer.hpp"
#include "../text/screen.hpp"

namespace pagetrap::tool {

namespace {

using store::StoreFile;
using store::StoreInfo;

std::string hexadecimal(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, number);
  return text;
}

std::string size_of(std::uint64_t bytes) { return size_text(static_cast<double>(bytes)); }

int exit_code(const Error& error) {
  return error.number == EBADMSG ? kFailed : error.number == EINVAL ? kUsage : kUnable;
}

void write_info(JsonWriter& json, const StoreInfo& info) {
  json.member("clean", info.clean).member("in_use", info.in_use);
  json.member("intact_superblocks", static_cast<std::uint64_t>(info.intact_superblocks));
  json.member("restored_pages", info.restored_pages);
  json.member("base", info.base).member("reserve_bytes", info.reserve_bytes);
  json.member("file_bytes", info.file_bytes).member("log_bytes", info.log_bytes);
  json.member("log_used_bytes", info.log_used_bytes).member("log_records", info.log_records);
  json.member("commits", info.commits).member("openings", info.openings);
  json.member("used_bytes", info.used_bytes).member("allocated_bytes", info.allocated_bytes);
  json.member("untyped_bytes", info.untyped_bytes).member("free_bytes", info.free_bytes);
  json.member("created_seconds",
              static_cast<std::uint64_t>(std::max<std::int64_t>(info.created_ns, 0) / 1000000000));
  json.key("roots").begin_array();
  for (const store::FileRoot& root : info.roots) {
    json.begin_object().member("name", shown(root.name)).member("type", shown(root.type));
    json.member("address", root.address).member("size_bytes", root.size_bytes).end_object();
  }
  json.end_array();
}

void print_info(const std::string& file, const StoreInfo& info) {
  print_heading(shown(file));
  Table table({Align::left, Align::left});
  table.add({"  state", info.in_use  ? std::string("in use; this is the last commit as of now")
                        : info.clean ? std::string("closed cleanly")
                                     : "not closed: " + std::to_string(info.log_records) +
                                           " commits are in the log only"});
  table.add({"  commits", grouped(static_cast<double>(info.commits)) + ", in " +
                              grouped(static_cast<double>(info.openings)) + " openings"});
  table.add({"  address", hexadecimal(info.base) + ", may grow to " + size_of(info.reserve_bytes)});
  table.add({"  file", size_of(info.file_bytes) + "; log " + size_of(info.log_used_bytes) + " of " +
                           size_of(info.log_bytes)});
  table.add({"  data", size_of(info.used_bytes) + ": " + size_of(info.allocated_bytes) +
                           " in blocks, " + size_of(info.free_bytes) + " in free pages"});
  table.add({"  pointers", info.untyped_bytes == 0
                               ? std::string("all known: it can be mapped anywhere")
                               : size_of(info.untyped_bytes) + " in blocks without a map"});
  if (info.intact_superblocks < 2) table.add({"  superblock", "one of two copies is damaged"});
  if (info.restored_pages != 0)
    table.add({"  checkpoint", "interrupted; " + std::to_string(info.restored_pages) +
                                   " pages are taken from the staging area"});
  table.print();
  Table roots({Align::left, Align::right, Align::right, Align::left});
  roots.add({{"  root", Style::faint},
             {"size", Style::faint},
             {"address", Style::faint},
             {"type (mangled)", Style::faint}});
  for (const store::FileRoot& root : info.roots)
    roots.add({"  " + shown(root.name), size_of(root.size_bytes), hexadecimal(root.address),
               shown(root.type)});
  roots.print();
}

/// Lines of 16 bytes, as hexdump -C has them.
void print_bytes(std::uint64_t address, const std::vector<std::byte>& bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += 16) {
    std::printf("    %012" PRIx64 " ", address + at);
    std::string letters;
    for (std::size_t i = at; i < at + 16; ++i) {
      if (i >= bytes.size()) {
        std::printf("   ");
        continue;
      }
      const auto byte = static_cast<unsigned>(bytes[i]);
      std::printf(" %02x", byte);
      letters += byte >= ' ' && byte < 0x7f ? static_cast<char>(byte) : '.';
    }
    std::printf("  %s\n", letters.c_str());
  }
}

/// One command over several files: the first that is not as it should be decides the exit code.
class Run {
 public:
  Run(const char* command, const StoreRequest& request) : request_(request) {
    json_.begin_object().member("schema", "pagetrap-store/1").member("command", command);
    json_.key("stores").begin_array();
  }

  /// `look(file)` returns what there is, or why not.
  template <class Look>
  int over_files(Look&& look) {
    for (const std::string& file : request_.files) {
      json_.begin_object().member("file", shown(file));
      const Result<StoreInfo> info = look(file);
      json_.member("ok", static_cast<bool>(info));
      if (info) {
        write_info(json_, *info);
      } else {
        tell(file, info.error());
      }
      json_.end_object();
    }
    json_.end_array().member("exit_code", code_).end_object();
    if (request_.json) std::printf("%s\n", json_.text().c_str());
    return code_;
  }

 private:
  void tell(const std::string& file, const Error& error) {
    if (code_ == kOk) code_ = exit_code(error);
    std::fflush(stdout);
    std::fprintf(stderr, "pagetrap: %s: %s\n", shown(file).c_str(), describe(error).c_str());
    const char* const symbol = ::strerrorname_np(error.number);
    json_.key("error").begin_object().member("operation", error.operation);
    json_.member("errno", error.number).member("errno_name", symbol != nullptr ? symbol : "");
    if (error.position >= 0) json_.member("position", static_cast<std::uint64_t>(error.position));
    json_.member("remedy", error.remedy).end_object();
  }

  const StoreRequest& request_;
  JsonWriter json_;
  int code_ = kOk;
};

}  // namespace

int store_stat(const StoreRequest& request) {
  return Run("stat", request).over_files([&](const std::string& file) -> Result<StoreInfo> {
    const auto opened = StoreFile::open(file);
    if (!opened) return opened.error();
    if (!request.json) print_info(file, opened->info());
    return opened->info();
  });
}

int store_check(const StoreRequest& request) {
  return Run("check", request).over_files([&](const std::string& file) -> Result<StoreInfo> {
    auto opened = StoreFile::open(file);
    if (!opened) return opened.error();
    if (const auto done = opened->verify(); !done) return done.error();
    if (!request.json)
      std::printf("%s: intact, %s of data, %s commits\n", shown(file).c_str(),
                  size_of(opened->info().used_bytes).c_str(),
                  grouped(static_cast<double>(opened->info().commits)).c_str());
    return opened->info();
  });
}

int store_dump(const StoreRequest& request) {
  return Run("dump", request).over_files([&](const std::string& file) -> Result<StoreInfo> {
    auto opened = StoreFile::open(file);
    if (!opened) return opened.error();
    if (!request.json) print_info(file, opened->info());
    bool found = request.root.empty();
    for (const store::FileRoot& root : opened->info().roots) {
      if (!request.root.empty() && root.name != request.root) continue;
      found = true;
      constexpr std::uint64_t kMost = 1 << 16;
      std::vector<std::byte> bytes(std::min(root.size_bytes, kMost));
      if (const auto done = opened->read(root.address, bytes); !done) return done.error();
      if (request.json) continue;
      std::printf("  %s%s\n", shown(root.name).c_str(),
                  bytes.size() < root.size_bytes ? ", its first 64 KiB" : "");
      print_bytes(root.address, bytes);
    }
    if (!found) return Error{"dump of a store", EINVAL, {}, "it has no such root"};
    return opened->info();
  });
}

int store_compact(const StoreRequest& request) {
  return Run("compact", request).over_files([&](const std::string& file) -> Result<StoreInfo> {
    std::uint64_t bytes = 0;
    {
      const auto before = StoreFile::open(file);
      if (!before) return before.error();
      bytes = before->info().file_bytes;
    }
    const auto after = store::compact(file);
    if (after && !request.json)
      std::printf("%s: %s, was %s\n", shown(file).c_str(), size_of(after->file_bytes).c_str(),
                  size_of(bytes).c_str());
    return after;
  });
}

}  // namespace pagetrap::tool

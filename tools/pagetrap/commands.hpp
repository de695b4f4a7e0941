// The subcommands, as main.cpp sees them. docs/commands.md is their manual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pagetrap::tool {

/// What the process returns. docs/commands.md explains them to users.
enum ExitCode : int {
  kOk = 0,
  kFailed = 1,  // the command ran, and something is not as it should be
  kUsage = 2,   // the command line makes no sense
  kUnable = 3,  // the command could not run here: a file, a limit, a part that is not built in
};

struct DoctorOptions {
  bool json = false;
};
int doctor(const DoctorOptions& options);

struct TourOptions {
  bool quick = false;
  std::string chapter;  // one of tour_chapters(); empty: all
};
std::vector<std::string> tour_chapters();
int tour(const TourOptions& options);

struct BenchRequest {
  std::vector<std::string> modules;  // none: all
  bool quick = false;
  bool list = false;
  std::string filter;     // row ids that begin with this; empty: all
  std::string json_file;  // empty: none
};
/// Defined in bench/linked.cpp or bench/absent.cpp; CMake chooses.
int bench(const BenchRequest& request);
/// Whether benchmarks are part of this command.
bool bench_is_linked() noexcept;

struct ImageRequest {
  std::vector<std::string> files;
  bool json = false;
  std::string output;       // merge, extract: a file, or - for standard output
  std::string compression;  // merge; empty: as it was
  std::string region;       // extract; see has_region
  bool has_region = false;  // false: the only one
};
/// Defined in image/ or, without the room checkpoint, in image/absent.cpp; CMake chooses.
int image_inspect(const ImageRequest& request);
int image_verify(const ImageRequest& request);
int image_merge(const ImageRequest& request);
int image_extract(const ImageRequest& request);

struct StoreRequest {
  std::vector<std::string> files;
  bool json = false;
  std::string root;  // dump; empty: all
};
/// Defined in store/ or, without that room, in store/absent.cpp; CMake chooses.
int store_stat(const StoreRequest& request);
int store_check(const StoreRequest& request);
int store_dump(const StoreRequest& request);
int store_compact(const StoreRequest& request);

struct CollectionsRequest {
  std::string file;
  bool json = false;
  bool map = false;        // one cycle page by page
  bool has_cycle = false;  // ... this one
  std::uint32_t cycle = 0;
  std::size_t frames = 6;
};
/// A trace of a program with a collected heap.
int collections(const CollectionsRequest& request);

struct GuardRequest {
  std::string strength;   // page, page+cold, alias, sample; empty: no guards
  std::string side;       // right, left, random; empty: the strength's own
  std::string mechanism;  // best, userfaultfd, markers, mprotect
  std::string revoke;     // alias: at-once, batched, lazy
  std::string hot;        // page+cold: bytes, as "64M"
  std::string rate;       // sample: one in so many
  std::string align;      // least alignment
  std::string report;     // a file; empty: standard error
  std::string json;       // a file too
  std::string exit_code;
  std::string most_reports;
  std::string debugger;  // a shell command; %p is the process
  bool go_on = false;
  bool core = false;
  bool statistics = false;
  bool any_function = false;  // new may be freed by free
  bool keep_allocators = false;
  bool symbols = true;
};

struct CheckpointRequest {
  int process = 0;         // checkpoint: of this one
  std::string directory;   // where images go; empty: no checkpoints (run), where they are (restart)
  std::string every;       // as "60s"; empty: when it is asked for
  std::string keep;        // a number
  std::string full_every;  // a number
  std::string compression;  // none, lz4, zstd
  bool full = false;
  bool json = false;
};
/// Defined in process/ or, without the room checkpoint, in process/absent.cpp; CMake chooses.
int checkpoint_process(const CheckpointRequest& request);

struct RestartRequest {
  std::string path;  // an image, or a directory of some
  std::string at;    // a time; empty: the newest
  std::string mode;  // eager, mapped, lazy; empty: what is best
  std::string report;
  CheckpointRequest saving;  // what is empty is as it was
  bool no_checkpoints = false;
  bool any_files = false;
  bool other_kernel = false;  // for tests
  bool verbose = false;
};
/// The exit code of the process that goes on.
int restart(const RestartRequest& request);

struct RunRequest {
  GuardRequest guard;
  CheckpointRequest checkpoint;
  std::string memory;                  // as "64M" or "1G=total"
  std::string delivery = "auto";       // auto, threads, signals
  std::string report;                  // at exit: a file, or -; empty: none
  std::string report_signal = "USR2";  // a name, a number, or none
  std::vector<std::string> program;
};
/// Does not return if the program could be started. Beside ExitCode: 126, 127 as shells do.
int run(const RunRequest& request);

/// Reads "MODULE OFFSET" lines, writes "FUNCTION (FILE:LINE)" lines. Defined in symbols/ or,
/// without libbacktrace, in symbols/absent.cpp; CMake chooses.
int symbols();

int version();
/// As "0.1.0".
std::string version_text();

}  // namespace pagetrap::tool

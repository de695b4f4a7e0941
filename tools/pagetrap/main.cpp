// The command line. The only file that includes CLI11, which takes seconds to compile.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <pagetrap/vm/backend.hpp>

#include "commands.hpp"

namespace {

using namespace pagetrap::tool;

/// What to print for a mistake: what is wrong, then what to do.
std::string explain_mistake(const CLI::App* app, const CLI::Error& error, const char* first_word) {
  std::string text = "pagetrap: ";
  const bool unknown = first_word != nullptr && *first_word != '-' &&
                       app->get_subcommands([first_word](const CLI::App* command) {
                            return command->get_name() == first_word;
                          })
                           .empty();
  if (unknown) {
    text += std::string("there is no command \"") + first_word + "\"";
  } else {
    text += error.what();
  }
  return text +
         "\nCommands: doctor, tour, bench, run, checkpoint, restart, image, store, collections, "
         "symbols, version. "
         "`pagetrap COMMAND "
         "--help` "
         "tells "
         "more.\n";
}

/// A wrong name would make every command fail in its own way. True if there is none.
bool environment_makes_sense() {
  const char* const wanted = std::getenv("PAGETRAP_BACKEND");
  if (wanted == nullptr || *wanted == '\0' || std::strcmp(wanted, "best") == 0 ||
      pagetrap::backend_named(wanted)) {
    return true;
  }
  std::fprintf(stderr, "pagetrap: PAGETRAP_BACKEND=%s names no backend; there are:", wanted);
  for (const auto& backend : pagetrap::backends()) std::fprintf(stderr, " %s", backend.name);
  std::fputs("\n", stderr);
  return false;
}

struct ImageCommands {
  CLI::App *inspect, *verify, *merge, *extract;
};

ImageCommands add_image_commands(CLI::App& app, ImageRequest& request) {
  CLI::App* const image =
      app.add_subcommand("image", "Look at checkpoints, and make others of them");
  image->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, bool several) {
    CLI::App* const command = image->add_subcommand(name, what);
    auto* const files = command->add_option("FILE", request.files, "An image")->required();
    files->expected(1, several ? 1 << 20 : 1);
    command->add_flag("--json", request.json, "Print JSON, schema pagetrap-image/1");
    return command;
  };
  ImageCommands commands{
      add("inspect", "What an image has, and the parents that it needs", true),
      add("verify", "Read every byte of an image and its parents, and check it", true),
      add("merge", "Write an image and its parents as one full image", false),
      add("extract", "Write a region's bytes to a file", false),
  };
  for (CLI::App* const command : {commands.merge, commands.extract}) {
    command->add_option("-o,--output", request.output, "The new file; - is standard output")
        ->required();
  }
  commands.merge
      ->add_option("--compression", request.compression, "none, lz4 or zstd (default: as it was)")
      ->check(CLI::IsMember({"none", "lz4", "zstd"}));
  commands.extract->add_option("--region", request.region, "Its name (default: the only one)");
  return commands;
}

struct StoreCommands {
  CLI::App *stat, *check, *dump, *compact;
};

StoreCommands add_store_commands(CLI::App& app, StoreRequest& request) {
  CLI::App* const store = app.add_subcommand("store", "Look at persistent stores");
  store->require_subcommand(1);
  store->footer(
      "Exit codes: 0 done, and intact; 1 a file is damaged, cut short or not a store; 2 wrong "
      "usage, "
      "or no such root;\n3 not possible here: the file is missing or cannot be read, or a program "
      "has it open.");
  const auto add = [&](const char* name, const char* what) {
    CLI::App* const command = store->add_subcommand(name, what);
    command->add_option("FILE", request.files, "A store")->required()->expected(1, 1 << 20);
    command->add_flag("--json", request.json, "Print JSON, schema pagetrap-store/1");
    return command;
  };
  const StoreCommands commands{
      add("stat", "What a store has: commits, sizes, roots"),
      add("check", "Read every page of a store, and check it"),
      add("dump", "The bytes of its roots"),
      add("compact", "Write it anew, as small as it can be"),
  };
  commands.dump->add_option("--root", request.root, "Only this one");
  return commands;
}

CLI::App* add_collections_command(CLI::App& app, CollectionsRequest& request) {
  CLI::App* const command = app.add_subcommand(
      "collections", "The cycles and pauses of a collected heap, from a program's trace");
  command->add_option("TRACEFILE", request.file, "What PAGETRAP_TRACE_FILE named")->required();
  command->add_flag("--json", request.json, "Print JSON, schema pagetrap-collections/1");
  command->add_flag("--map", request.map, "Instead, maps of the pages during the busiest cycle");
  command->add_option("--cycle", request.cycle, "... during this one");
  command->add_option("--frames", request.frames, "So many maps (6)")->check(CLI::Range(2, 100));
  command->footer(
      "The program is run with PAGETRAP_TRACE_FILE=FILE "
      "PAGETRAP_TRACE=fault,flip,pause,stall,cycle "
      "and for maps\nalso close,scan,open,pin; PAGETRAP_TRACE_EVENTS=1000000 keeps more than the "
      "last 65536 events.\n"
      "Exit codes: 0 done; 1 the file is damaged, no trace, or tells of no heap; 2 wrong usage, or "
      "no such cycle;\n3 not possible here: the file is missing or cannot be read.");
  return command;
}

void add_saving_options(CLI::App* command, CheckpointRequest& request) {
  command->add_option("--keep", request.keep, "So many images that can be restarted (2)");
  command->add_option("--full-every", request.full_every,
                      "One image in so many is whole; the others have what changed since (16)");
  command->add_option("--compression", request.compression, "Of images: none, lz4, zstd (none)")
      ->check(CLI::IsMember({"none", "lz4", "zstd"}));
}

CLI::App* add_run_command(CLI::App& app, RunRequest& request) {
  CLI::App* const command =
      app.add_subcommand("run", "Run an unmodified program, with a power that it does not know of");
  command->add_option("--memory", request.memory,
                      "BYTES[=total]: more of its memory is kept compressed; =total: compressed "
                      "pages count too. As 64M, 1G");
  command
      ->add_option("--delivery", request.delivery,
                   "Of page faults: threads (system calls are served too), signals, or auto")
      ->check(CLI::IsMember({"auto", "threads", "signals"}));
  command->add_option("--report", request.report,
                      "Append a line to this file at exit; - is standard error");
  command->add_option(
      "--report-signal", request.report_signal,
      "Tell on standard error, or in that file, when it comes; none (default: USR2)");
  GuardRequest& guard = request.guard;
  command
      ->add_option(
          "--guard", guard.strength,
          "Report overflows and uses after free at the access: page (each block on a page "
          "of its own; the default), page+cold (the same, and blocks that were opened long ago "
          "are packed), alias (uses after free only, at the memory that malloc "
          "takes), or sample (a few blocks, at hardly any cost)")
      ->expected(0, 1)
      ->default_str("page")
      ->check(CLI::IsMember({"page", "page+cold", "alias", "sample"}));
  command
      ->add_option("--guard-side", guard.side,
                   "Where in its page a block lies: right (at its end a guard; default of page), "
                   "left, random (default of sample)")
      ->check(CLI::IsMember({"right", "left", "random"}));
  command
      ->add_option(
          "--guard-revoke", guard.revoke,
          "Of alias: when a freed block's addresses go: at-once (the default), batched, lazy")
      ->check(CLI::IsMember({"at-once", "batched", "lazy"}));
  command->add_option("--guard-hot", guard.hot,
                      "Of page+cold: so much memory for pages of blocks that are not packed (64M)");
  command->add_option("--guard-rate", guard.rate, "Of sample: one block in so many (1000)");
  command->add_option(
      "--guard-align", guard.align,
      "Least alignment of blocks: 1, 2, 4, 8, 16 (2). Odd sizes are precise with 1, "
      "and programs that keep flags in pointers may need 8 or 16");
  command->add_option("--guard-report", guard.report, "Append reports to this file");
  command->add_option("--guard-json", guard.json,
                      "Also as JSON, schema pagetrap-guard/1, a line each");
  command->add_flag("--guard-continue", guard.go_on, "Go on after a report");
  command->add_option("--guard-reports", guard.most_reports, "Going on ends with so many (20)");
  command->add_option("--guard-exit-code", guard.exit_code, "Of the program after a report (66)");
  command->add_flag("--guard-core", guard.core, "Abort after a report, for a core dump");
  command->add_option("--guard-debugger", guard.debugger,
                      "A shell command to run after a report; %p is the process");
  command->add_flag("--guard-statistics", guard.statistics, "Tell at exit how much was guarded");
  command->add_flag("--guard-any-function", guard.any_function,
                    "What new allocated may be freed by free(), and the like");
  command->add_flag("--guard-keep-allocators", guard.keep_allocators,
                    "Do not tell Python, GLib and libstdc++ to use malloc");
  command->add_flag("!--guard-no-symbols", guard.symbols, "Modules and offsets only");
  command
      ->add_option("--guard-mechanism", guard.mechanism,
                   "How pages are made to fault: userfaultfd, markers, mprotect, best")
      ->check(CLI::IsMember({"best", "userfaultfd", "markers", "mprotect"}));
  command->add_option("--checkpoint", request.checkpoint.directory,
                      "Save it to images in this directory, as it runs: when `pagetrap checkpoint` "
                      "asks for it, and");
  command->add_option("--every", request.checkpoint.every, "... every so often, as 60s, 10m");
  add_saving_options(command, request.checkpoint);
  command->add_option("PROGRAM", request.program, "The program and its arguments, after --");
  command->positionals_at_end();
  return command;
}

CLI::App* add_checkpoint_command(CLI::App& app, CheckpointRequest& request) {
  CLI::App* const command =
      app.add_subcommand("checkpoint", "Save a running process, which goes on");
  command->add_option("PID", request.process, "Run by `pagetrap run --checkpoint`, or restarted")
      ->required()
      ->check(CLI::PositiveNumber);
  command->add_option("--into", request.directory,
                      "Of any process that may be traced: an image in this directory");
  command->add_flag("--full", request.full, "Not an increment, whatever there is");
  command->add_flag("--json", request.json, "Print statistics, schema pagetrap-checkpoint/1");
  add_saving_options(command, request);
  command->footer(
      "Exit codes: 0 done; 2 wrong usage; 3 refused, with a line that names each object that "
      "stands "
      "in the way:\nthe process goes on as if nothing had been.");
  return command;
}

CLI::App* add_restart_command(CLI::App& app, RestartRequest& request) {
  CLI::App* const command =
      app.add_subcommand("restart", "A process goes on where its image was taken");
  command->add_option("IMAGE", request.path, "An image, or a directory: the newest good one in it")
      ->required();
  command->add_option("--at", request.at,
                      "The newest image that is as old as that: \"2026-11-30 12:00:00\", @SECONDS");
  command
      ->add_option("--mode", request.mode,
                   "eager: all of it is read first; mapped: the kernel brings pages from the image "
                   "file; lazy: this command brings pages when they are touched (default: the best "
                   "there is)")
      ->check(CLI::IsMember({"eager", "mapped", "lazy"}));
  command->add_option("--checkpoint", request.saving.directory,
                      "Go on to save it, in this directory (default: where the image is)");
  command->add_option("--every", request.saving.every, "... every so often (default: as it was)");
  add_saving_options(command, request.saving);
  command->add_option("--report", request.report,
                      "Append a JSON line for each checkpoint to this file; - is standard error");
  command->add_flag("--no-checkpoints", request.no_checkpoints, "Do not save it again");
  command->add_flag("--any-files", request.any_files,
                    "Whatever has become of the files that it had open or mapped");
  command->add_flag("--other-kernel", request.other_kernel, "As if the kernel were another one")
      ->group("");  // for tests
  command->add_flag("--verbose", request.verbose, "Tell how long it took");
  command->footer(
      "Exit codes: those of the process; 2 wrong usage; 3 it cannot go on here, with a line that "
      "names each reason.");
  return command;
}

int parse_and_run(int argc, char** argv) {
  CLI::App app{"Virtual-memory primitives for user programs, after Appel & Li (1991)", "pagetrap"};
  app.require_subcommand(1);
  app.failure_message(
      [first_word = argv[argc > 1 ? 1 : argc]](const CLI::App* failed, const CLI::Error& error) {
        return explain_mistake(failed, error, first_word);
      });
  app.footer(
      "Exit codes: 0 done, 1 something is not as it should be, 2 wrong usage, 3 not possible "
      "here.\n"
      "Environment: NO_COLOR=1 no colours; PAGETRAP_BACKEND=NAME another mechanism than the best.");

  DoctorOptions doctor_options;
  CLI::App* const doctor_command = app.add_subcommand(
      "doctor", "What this kernel and this user may do, what serves each primitive, and its cost");
  doctor_command->add_flag("--json", doctor_options.json, "Print JSON, schema pagetrap-doctor/1");

  TourOptions tour_options;
  CLI::App* const tour_command = app.add_subcommand(
      "tour", "What pagetrap can do, shown on this machine, in under two minutes");
  tour_command->add_flag("--quick", tour_options.quick,
                         "In under 20 seconds, with rougher figures");
  tour_command->add_option("--chapter", tour_options.chapter, "Only this one")
      ->check(CLI::IsMember(tour_chapters()));

  BenchRequest bench_request;
  CLI::App* const bench_command =
      app.add_subcommand("bench", "Measure pagetrap against its rivals and twins");
  bench_command->add_option("MODULE", bench_request.modules, "Such as vm; none: all");
  bench_command->add_flag("--quick", bench_request.quick, "Under a minute for each module");
  bench_command->add_option("--json", bench_request.json_file,
                            "Also write the rows to this file, schema pagetrap-bench/1");
  bench_command->add_option("--filter", bench_request.filter,
                            "Only rows whose id begins so, such as vm.trap");
  bench_command->add_flag("--list", bench_request.list, "Only print the rows' ids");

  RunRequest run_request;
  const CLI::App* const run_command = add_run_command(app, run_request);

  CheckpointRequest checkpoint_request;
  const CLI::App* const checkpoint_command = add_checkpoint_command(app, checkpoint_request);
  RestartRequest restart_request;
  const CLI::App* const restart_command = add_restart_command(app, restart_request);

  ImageRequest image_request;
  const ImageCommands image_commands = add_image_commands(app, image_request);

  StoreRequest store_request;
  const StoreCommands store_commands = add_store_commands(app, store_request);

  CollectionsRequest collections_request;
  const CLI::App* const collections_command = add_collections_command(app, collections_request);

  CLI::App* const symbols_command = app.add_subcommand(
      "symbols", "Read lines MODULE OFFSET, answer each with its function, file and line");

  CLI::App* const version_command =
      app.add_subcommand("version", "The version, and what it runs on");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Also --help, which is no error. CLI11 has a number for each mistake; we have one.
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  if (!environment_makes_sense()) return kUsage;
  if (doctor_command->parsed()) return doctor(doctor_options);
  if (tour_command->parsed()) return tour(tour_options);
  if (bench_command->parsed()) return bench(bench_request);
  if (run_command->parsed()) return run(run_request);
  if (checkpoint_command->parsed()) return checkpoint_process(checkpoint_request);
  if (restart_command->parsed()) return restart(restart_request);
  image_request.has_region = image_commands.extract->count("--region") != 0;
  if (image_commands.inspect->parsed()) return image_inspect(image_request);
  if (image_commands.verify->parsed()) return image_verify(image_request);
  if (image_commands.merge->parsed()) return image_merge(image_request);
  if (image_commands.extract->parsed()) return image_extract(image_request);
  if (store_commands.stat->parsed()) return store_stat(store_request);
  if (store_commands.check->parsed()) return store_check(store_request);
  if (store_commands.dump->parsed()) return store_dump(store_request);
  if (store_commands.compact->parsed()) return store_compact(store_request);
  collections_request.has_cycle = collections_command->count("--cycle") != 0;
  if (collections_command->parsed()) return collections(collections_request);
  if (symbols_command->parsed()) return symbols();
  return version_command->parsed() ? version() : static_cast<int>(kUsage);
}

}  // namespace

int main(int argc, char** argv) try {
  return parse_and_run(argc, argv);
} catch (const std::exception& error) {
  // pagetrap's own errors end with a remedy.
  std::fprintf(stderr, "pagetrap: %s\n", error.what());
  return kUnable;
}

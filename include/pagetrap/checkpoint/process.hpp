// Checkpoints of whole processes that know nothing of it, and their restart. x86-64.
// docs/design/process.md tells how; `pagetrap run --checkpoint` and `pagetrap restart` are this.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/checkpointer.hpp>
#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

struct ProcessSaverOptions {
  std::string directory{};  // images are NAME.000001.ckpt, NAME.000002.ckpt ...
  std::string name = "process";
  unsigned keep = 2;         // generations that can be restored, with all the images they need
  unsigned full_every = 16;  // images; those between are increments
  Compression compression = Compression::none;
  unsigned threads = 0;                       // that encode and write; 0: one for each processor
  std::chrono::milliseconds patience{1'000};  // to wait for its threads to stop
  std::chrono::milliseconds every{0};         // noted in images, for whoever restarts them
  std::string socket{};  // likewise: the name of the socket where the process asks for checkpoints
};

/// A word in the memory of the process that is written at the cut: one value goes into the image,
/// the other is what the process finds when it goes on.
struct CutWord {
  std::uint64_t address = 0;
  std::uint32_t in_image = 0;
  std::uint32_t after = 0;
};

/// What one checkpoint of a process did. frozen_us is how long its threads stood still;
/// protecting_us what was done ahead of that, freezing_us the part of frozen_us until all stood.
struct ProcessStatistics : Statistics {
  std::string path;  // of the image
  unsigned threads = 0;
  bool forked = false;             // the frozen copy was a fork; false: pages copied in the stop
  bool tracked = false;            // writes are tracked, so that the next image can be an increment
  std::uint64_t pages_copied = 0;  // in the stop
};

/// Saves a process again and again. The process runs on; it is stopped for the cut only.
///
/// The process is traced (ptrace(2)) during a cut, by the calling thread: that is for its parent,
/// for root, and where Yama allows it. No other tracer may be at work. The memory of the process
/// gets a mapping more (of some hundred KiB), which is in no image. Threads  one at a time.
class PAGETRAP_API ProcessSaver {
 public:
  /// Errors  ESRCH: no such process; ENOTSUP: not x86-64; those of the directory, which is made if
  ///         it is not there.
  static Result<ProcessSaver> attach(pid_t process, const ProcessSaverOptions& options);
  ProcessSaver(ProcessSaver&& other) noexcept;
  ProcessSaver& operator=(ProcessSaver&& other) noexcept;
  ~ProcessSaver();

  /// Takes a cut and writes an image. Whatever happens, the process goes on as if nothing had.
  /// Errors  ENOTSUP: it has something that no image can have, a line each in refusals(); EPERM: it
  ///         may not be traced; ESRCH: it has ended; ETIMEDOUT: a thread did not stop, see
  ///         refusals(); EAGAIN, ENOMEM of fork(2); those of the image's file.
  Result<ProcessStatistics> checkpoint(const SaveOptions& options = {},
                                       std::span<const CutWord> words = {});

  /// A word of the process, while it runs. Errors  EFAULT: there is none.
  Result<std::uint32_t> read_word(std::uint64_t address) const;
  Result<Done> write_word(std::uint64_t address, std::uint32_t value) const;

  /// Why the last checkpoint was refused: "fd 7: TCP socket 127.0.0.1:6379".
  [[nodiscard]] const std::vector<std::string>& refusals() const noexcept;

 private:
  struct State;
  explicit ProcessSaver(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

/// What an image of a process has, for people.
struct ProcessInfo {
  struct Memory {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::string protection;  // as "rw-p"
    std::string what;        // a file, "heap", "stack" ...; empty: anonymous
  };
  std::string command;
  pid_t id = 0;
  std::string kernel;
  std::vector<std::string> threads;  // "123 name"
  std::vector<std::string> files;    // "3 /var/log/x, at 120"
  std::vector<Memory> memory;
  std::uint64_t timers = 0;
};
/// Of the image at `path`. Errors  those of inspect_chain(); EBADMSG: it is no process's.
PAGETRAP_API Result<ProcessInfo> inspect_process(const std::string& path);

enum class RestartMode : std::uint8_t {
  automatic,  // lazy where the kernel lets this user, else mapped if the image can be, else eager
  eager,      // all of it is read and checked first
  mapped,     // an uncompressed image is mapped: pages come from its file when they are touched.
              // The rest is checked by finish(), while the process runs
  lazy,       // pages come when they are touched, and by and by; served by this process, which must
              // live until finish()
};

struct RestartOptions {
  RestartMode mode = RestartMode::automatic;
  bool any_files = false;     // do not compare the files it had open or mapped with what they were
  bool other_kernel = false;  // as if this kernel were not the one of the image; for tests
  unsigned threads = 0;       // that read and decode; 0: one for each processor
  /// Called with ProcessSaverOptions::socket of the image when all is ready, before the process's
  /// first instruction.
  std::function<void(const std::string& socket)> before_it_goes_on{};
};

/// A process that goes on where its image was taken. It is a child of this one, or of one that
/// exists for its namespace's sake.
class PAGETRAP_API RestartedProcess {
 public:
  /// `path`  an image, or a directory: then the newest good image in it.
  /// Errors  ENOTSUP: something is not as it was, a line each in `refusals`; EBADMSG: damaged, or
  /// no
  ///         image of a process; those of clone3(2).
  static Result<RestartedProcess> start(const std::string& path, const RestartOptions& options,
                                        std::vector<std::string>& refusals);
  RestartedProcess(RestartedProcess&& other) noexcept;
  RestartedProcess& operator=(RestartedProcess&& other) noexcept;
  ~RestartedProcess();

  [[nodiscard]] pid_t id() const noexcept;         // as this process knows it
  [[nodiscard]] pid_t id_inside() const noexcept;  // as it was saved
  [[nodiscard]] const ImageInfo& image() const noexcept;
  [[nodiscard]] RestartMode mode() const noexcept;  // what automatic became
  /// How it was saved.
  [[nodiscard]] std::chrono::milliseconds every() const noexcept;
  [[nodiscard]] unsigned keep() const noexcept;
  [[nodiscard]] unsigned full_every() const noexcept;
  [[nodiscard]] const std::string& socket() const noexcept;
  /// From the call of start() to the first instruction, in us.
  [[nodiscard]] double first_instruction_us() const noexcept;

  /// What was done to files, a line each: those that had grown since are shortened to what they
  /// had, since the process writes it again.
  [[nodiscard]] const std::vector<std::string>& notices() const noexcept;

  /// Waits until all pages of a lazy restart are there, or all of a mapped image has been read and
  /// checked. The latter makes the calling thread one that gives way to all others.
  /// Errors  EBADMSG, EIO: the image is damaged; the process was killed.
  Result<Done> finish();
  /// Waits for its end. As waitpid(2) has it.
  int wait();

 private:
  struct State;
  explicit RestartedProcess(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

/// The newest image in `directory` that was made at `when` or before, in ns since 1970.
/// Errors  ENOENT: there is none.
PAGETRAP_API Result<std::string> image_at(const std::string& directory, std::int64_t when);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

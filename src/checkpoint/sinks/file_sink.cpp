#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include <pagetrap/checkpoint/sink.hpp>

#include "checkpoint/sinks/output.hpp"
#include "checkpoint/sinks/temporary.hpp"
#include "sys/fd.hpp"
#include "sys/injection.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

// The disk is told to begin with each such piece when it is there, so that it works while we do and
// the fsync at the end finds little left.
constexpr std::uint64_t kWriteBackPiece = 8u << 20;

// A hole costs a seek, and an extent of the file; below this zeroes are as cheap.
constexpr std::uint64_t kSmallestHole = 65536;

class FileSink final : public Sink {
 public:
  FileSink(sys::Descriptor directory, std::string path, std::string name, Temporary temporary)
      : directory_(std::move(directory)),
        path_(std::move(path)),
        name_(std::move(name)),
        temporary_(std::move(temporary)),
        process_(::getpid()) {}
  ~FileSink() override { abandon(); }

  Result<Done> write(std::span<const std::byte> bytes) override {
    if (const int error = write_whole(temporary_.file.get(), bytes)) {
      return Error{
          "write of a checkpoint", error, {}, remedy(error), static_cast<std::int64_t>(position_)};
    }
    position_ += bytes.size();
    if (position_ - told_ >= kWriteBackPiece) {
      // Only a hint: an error of the disk comes with fsync.
      ::sync_file_range(temporary_.file.get(), static_cast<off64_t>(told_),
                        static_cast<off64_t>(position_ - told_), SYNC_FILE_RANGE_WRITE);
      told_ = position_;
    }
    return Done{};
  }

  [[nodiscard]] std::string path() const override { return path_; }

  Result<Done> write_zeroes(std::uint64_t count) override {
    if (count < kSmallestHole) return Sink::write_zeroes(count);
    if (::lseek(temporary_.file.get(), static_cast<off_t>(count), SEEK_CUR) < 0) {
      return Error{"lseek in a checkpoint", errno};
    }
    position_ += count;
    return Done{};
  }

  Result<Done> commit() override {
    const int file = temporary_.file.get();
    {
      // The last bytes may have been a hole.
      const WriteSignalsHeld held;
      if (::ftruncate(file, static_cast<off_t>(position_)) != 0) {
        return Error{"ftruncate of a checkpoint", errno, {}, remedy(errno)};
      }
    }
    if (const int error = flush(file)) {
      return Error{"fsync of a checkpoint", error, {}, remedy(error)};
    }
    if (const int error = rename_to_name()) {
      return Error{"rename of a checkpoint", error};
    }
    committed_ = true;
    temporary_.file.reset();
    // EINVAL: the file system does not do that to directories, and need not.
    if (const int error = flush(directory_.get()); error != 0 && error != EINVAL) {
      return Error{"fsync of the checkpoint's directory",
                   error,
                   {},
                   "the checkpoint is there, but might not outlive a loss of power"};
    }
    return Done{};
  }

  void abandon() noexcept override {
    // A fork()ed child may destroy its copy of a sink that its parent still writes to.
    if (committed_ || !temporary_.file.valid() || process_ != ::getpid()) return;
    ::unlinkat(directory_.get(), temporary_.name.c_str(), 0);
    temporary_.file.reset();
  }

 private:
  int rename_to_name() noexcept {
    if (const int error = sys::injected(sys::Call::rename)) return error;
    if (::renameat(directory_.get(), temporary_.name.c_str(), directory_.get(), name_.c_str()) !=
        0) {
      return errno;
    }
    return 0;
  }

  static const char* remedy(int error) {
    switch (error) {
      case ENOSPC:
        return "the disk is full: make room, or remove old checkpoints";
      case EDQUOT:
        return "the disk quota is used up: remove old checkpoints";
      case EFBIG:
        return "the file would be larger than `ulimit -f` or the file system allows";
      default:
        return "";
    }
  }

  sys::Descriptor directory_;
  const std::string path_;
  std::string name_;
  Temporary temporary_;
  pid_t process_;
  std::uint64_t position_ = 0;
  std::uint64_t told_ = 0;  // write-back has begun up to here
  bool committed_ = false;
};

}  // namespace

Result<std::unique_ptr<Sink>> file_sink(const std::string& path) try {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return Error{"file_sink", path.empty() ? ENOENT : EISDIR};
  }
  sys::Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return Error{"open of the checkpoint's directory", errno};

  struct stat there {};
  if (::fstatat(directory.get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISDIR(there.st_mode)) return Error{"file_sink", EISDIR};
    if (!S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode)) {
      return Error{"file_sink",
                   EINVAL,
                   {},
                   "it is a device or a pipe, which a file would replace: open it and use "
                   "descriptor_sink()"};
    }
  }
  remove_dead_temporaries(directory.get());
  auto temporary = make_temporary(directory.get(), name);
  if (!temporary) return temporary.error();
  return std::unique_ptr<Sink>(std::make_unique<FileSink>(std::move(directory), path,
                                                          std::move(name), std::move(*temporary)));
} catch (const std::bad_alloc&) {
  return Error{"file_sink", ENOMEM};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

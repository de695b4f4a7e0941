#include <fcntl.h>

#include <cerrno>
#include <memory>

#include <pagetrap/checkpoint/sink.hpp>

#include "checkpoint/sinks/output.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

class DescriptorSink final : public Sink {
 public:
  explicit DescriptorSink(int descriptor) : descriptor_(descriptor) {}

  Result<Done> write(std::span<const std::byte> bytes) override {
    const int error = write_whole(descriptor_, bytes);
    if (error == 0) return Done{};
    return Error{"write of a checkpoint", error, {}, remedy(error)};
  }

  Result<Done> commit() override {
    const int error = flush(descriptor_);
    // EINVAL, EROFS: it is nothing that could be flushed.
    if (error == 0 || error == EINVAL || error == EROFS) return Done{};
    return Error{"fsync of a checkpoint", error};
  }

  void abandon() noexcept override {}

 private:
  static const char* remedy(int error) {
    return error == EPIPE ? "the reader has gone; nothing after this was saved" : "";
  }

  int descriptor_;
};

}  // namespace

Result<std::unique_ptr<Sink>> descriptor_sink(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0) return Error{"descriptor_sink", errno};
  if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH) != 0) {
    return Error{"descriptor_sink", EBADF, {}, "the descriptor is not open for writing"};
  }
  return std::unique_ptr<Sink>(std::make_unique<DescriptorSink>(descriptor));
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

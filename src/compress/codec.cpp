#include <pagetrap/compress/codec.hpp>

#include <cerrno>
#include <new>

#include "compress/own_memory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

void Codec::prepare(std::span<std::byte>) const noexcept PAGETRAP_SIGNAL_SAFE {}

Result<std::unique_ptr<Codec>> Codec::train(std::span<const std::byte>) const {
  return Error{"Codec::train", ENOTSUP, {}, "this codec does not learn"};
}

void* Codec::operator new(std::size_t size) {
  auto memory = own_memory(size, "pagetrap codec");
  if (!memory) throw std::bad_alloc();
  return memory->release().base;
}

void Codec::operator delete(void* codec, std::size_t size) noexcept {
  // Its end unmaps it.
  const sys::Mapping memory({static_cast<std::byte*>(codec), pages_for(size)});
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap

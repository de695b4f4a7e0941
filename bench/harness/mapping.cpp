#include "harness/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench {

Mapping::Mapping(std::size_t size_bytes) : size_bytes_(size_bytes) {
  void* const memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  data_ = static_cast<std::byte*>(memory);
  madvise(data_, size_bytes_, MADV_NOHUGEPAGE);  // EINVAL where there are none
}

Mapping::~Mapping() { unmap(); }

std::byte* Mapping::page(std::size_t index) const noexcept { return data_ + index * page_size(); }

void Mapping::unmap() noexcept {
  if (data_ != nullptr) munmap(data_, size_bytes_);
  data_ = nullptr;
}

void populate(std::byte* data, std::size_t size_bytes) {
  for (std::size_t offset = 0; offset < size_bytes; offset += page_size()) {
    write_to(data + offset, static_cast<unsigned char>(offset >> page_shift()));
  }
}

std::size_t count_mappings() {
  // Without a stream: this is also called where allocating has become impossible.
  const int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return 0;
  std::array<char, 16384> buffer{};
  std::size_t lines = 0;
  for (ssize_t length = 0; (length = read(maps, buffer.data(), buffer.size())) > 0;) {
    lines += static_cast<std::size_t>(std::count(buffer.begin(), buffer.begin() + length, '\n'));
  }
  close(maps);
  return lines;
}

}  // namespace pagetrap::bench

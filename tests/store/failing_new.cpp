// operator new that fails when a test wants it to.
#include <cstdlib>
#include <new>

extern thread_local int allocations_left;
thread_local int allocations_left = -1;

void* operator new(std::size_t size) {
  int& left = allocations_left;
  if (left >= 0 && left-- == 0) throw std::bad_alloc();
  if (void* const memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

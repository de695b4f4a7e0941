#include <cstdio>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/vm.hpp>

int main() {
  const auto page_size = pagetrap::page_size();
  std::printf("pages of %zu bytes\n", page_size);
  return page_size >= 4096 ? 0 : 1;
}

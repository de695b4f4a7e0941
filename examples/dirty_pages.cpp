// DIRTY: which pages were written since the last look? An incremental backup, in miniature.
#include <cstdio>
#include <exception>
#include <vector>

#include <pagetrap/vm/vm.hpp>

int main() try {
  using namespace pagetrap;
  auto heap = Region::create(64_MiB, {.dirty = DirtyForm::best}).value();
  std::byte* const data = heap.data();

  // The program works: three writes, two of them in one page.
  data[0] = std::byte{1};
  data[10 * page_size()] = std::byte{2};
  data[10 * page_size() + 100] = std::byte{3};

  std::vector<PageRange> written;
  const Pages first = heap.dirty(heap.range(), written).value();  // and watches them again
  for (const PageRange& range : written) {
    std::printf("save page %td, %zu page(s)\n",
                (range.base - data) / static_cast<std::ptrdiff_t>(page_size()),
                range.length.count());
  }

  data[11 * page_size()] = std::byte{4};
  written.clear();
  const Pages second = heap.dirty(heap.range(), written).value();
  std::printf("then %zu more\n", second.count());
  return first == Pages{2} && second == Pages{1} ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "dirty_pages: %s\n", error.what());
  return 1;
}

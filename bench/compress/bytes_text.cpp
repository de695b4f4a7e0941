// compress.bytes_text: how many bytes do heaps full of text take when they are compressed page by
// page? Ours: everything that the store holds, dictionary, tables and holes included; the
// dictionary has been learnt from a few pages of the same heap. The rival: the bytes of the blobs
// alone.
#include <memory>

#include <pagetrap/compress/page_store.hpp>

#include "compress/heaps.hpp"
#include "compress/questions.hpp"
#include "harness/clock.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLearnFrom = 1024;  // pages, as CompressedSource does

using Span = std::span<const std::byte>;

double plain_lz4(const HeapImage& heap, Report& report) {
  compress::PageStoreOptions options;
  options.budget_bytes = 2 * heap.bytes.size();
  auto store = compress::PageStore::create(std::move(options));
  if (!store) report.fail(describe(store.error()));
  for (std::size_t at = 0; at < heap.bytes.size(); at += kPage)
    report.check(bool(store->store(Span(heap.bytes).subspan(at, kPage))), "a page was not stored");
  return static_cast<double>(store->statistics().blob_bytes);
}

double ours(const HeapImage& heap, Report& report) {
  compress::PageStoreOptions options;
  options.budget_bytes = 2 * heap.bytes.size();
  auto store = compress::PageStore::create(std::move(options));
  if (!store) report.fail(describe(store.error()));
  const std::size_t pages = heap.bytes.size() / kPage;
  std::vector<std::byte> learnt;
  for (std::size_t i = 0; i < kLearnFrom; ++i) {
    const Span page = Span(heap.bytes).subspan(i * pages / kLearnFrom * kPage, kPage);
    learnt.insert(learnt.end(), page.begin(), page.end());
  }
  const double begin = now_ns();
  if (const auto done = store->train(learnt); !done) report.fail(describe(done.error()));
  report.parameter(heap.name + "_training_ms", (now_ns() - begin) / 1e6);
  std::vector<compress::StoredPage> stored;
  for (std::size_t at = 0; at < heap.bytes.size(); at += kPage) {
    const auto page = store->store(Span(heap.bytes).subspan(at, kPage));
    if (!page) report.fail(describe(page.error()));
    stored.push_back(*page);
  }
  std::vector<std::byte> back(kPage);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    report.check(bool(store->load(stored[i], back)), "a page was not loaded");
    report.check(std::equal(back.begin(), back.end(),
                            heap.bytes.begin() + static_cast<std::ptrdiff_t>(i * kPage)),
                 "a page is not what it was");
  }
  return static_cast<double>(store->memory_bytes());
}

void measure(const Effort& effort, Report& report) {
  const auto heaps = text_heaps((effort.quick ? std::size_t{24} : 96) << 20);
  if (heaps.empty()) report.skip("not enough text in /usr/include and /usr/share/doc");
  for (const HeapImage& heap : heaps) {
    const double mine = ours(heap, report);
    const double rival = plain_lz4(heap, report);
    const auto size = static_cast<double>(heap.bytes.size());
    report.parameter(heap.name + "_ratio", size / mine);
    report.parameter(heap.name + "_lz4_ratio", size / rival);
    report.pair(mine / size * kPage, rival / size * kPage);
  }
}

}  // namespace

void add_bytes_text(Questions& questions) {
  questions.push_back({.id = "compress.bytes_text",
                       .asks = "stored bytes for a page of heaps of text, JSON and database rows",
                       .ours = "LZ4 with a learnt dictionary, all memory of the store",
                       .rival = "LZ4 of each page of 4 KiB, its output alone",
                       .unit = "bytes",
                       .target = 0.8,
                       .measure = measure,
                       .scheduling = Scheduling::fair_group,
                       .bound = "what the pages have in common that is not within each of them"});
}

}  // namespace pagetrap::bench

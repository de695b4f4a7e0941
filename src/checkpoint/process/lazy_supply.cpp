// Pages that come when they are touched. The server is one thread, so that what it knows of the
// process's mappings is always as of the last event it has read.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include <pagetrap/core/units.hpp>

#include "checkpoint/process/supply.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/userfaultfd.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// The memory of the process, or of a child that it forked meanwhile.
struct LazySupply::Context {
  /// Addresses whose pages are absent still, and which addresses they had in the image.
  struct Absent {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t saved_start = 0;
  };
  sys::Descriptor userfaultfd;
  std::vector<Absent> absent;  // by start
  bool gone = false;

  void remove(std::uint64_t start, std::uint64_t end) {
    std::vector<Absent> left;
    for (const Absent& each : absent) {
      if (each.end <= start || each.start >= end) {
        left.push_back(each);
        continue;
      }
      if (each.start < start) left.push_back({each.start, start, each.saved_start});
      if (each.end > end) left.push_back({end, each.end, each.saved_start + (end - each.start)});
    }
    absent = std::move(left);
  }
  void move(std::uint64_t from, std::uint64_t to, std::uint64_t length) {
    std::vector<Absent> moved;
    for (const Absent& each : absent) {
      const std::uint64_t start = std::max(each.start, from);
      const std::uint64_t end = std::min(each.end, from + length);
      if (start < end)
        moved.push_back(
            {to + (start - from), to + (end - from), each.saved_start + (start - each.start)});
    }
    remove(from, from + length);
    remove(to, to + length);
    absent.insert(absent.end(), moved.begin(), moved.end());
    std::sort(absent.begin(), absent.end(),
              [](const Absent& a, const Absent& b) { return a.start < b.start; });
  }
  /// The first part of [start, end) that is absent, and is where it was when it was saved.
  [[nodiscard]] Run first_in(std::uint64_t start, std::uint64_t end) const {
    auto each = std::upper_bound(
        absent.begin(), absent.end(), start,
        [](std::uint64_t at, const Absent& candidate) { return at < candidate.end; });
    while (each != absent.end() && each->start < end && each->saved_start != each->start) ++each;
    if (each == absent.end() || each->start >= end) return {};
    return {std::max(each->start, start), std::min(each->end, end)};
  }
  [[nodiscard]] const Absent* find(std::uint64_t address) const {
    const auto after =
        std::upper_bound(absent.begin(), absent.end(), address,
                         [](std::uint64_t at, const Absent& each) { return at < each.start; });
    if (after == absent.begin() || address >= (after - 1)->end) return nullptr;
    return &*(after - 1);
  }
};

namespace {

constexpr std::uint64_t kFeatures = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                    UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_FORK;
constexpr std::uint64_t kAhead = 64 * 1024;     // brought for a page that was touched
constexpr std::uint64_t kByAndBy = 256 * 1024;  // at a time, of what nobody asked for

PageRange range_of(const Run& run) {
  return {reinterpret_cast<std::byte*>(run.start), pages_for(run.end - run.start)};
}

// 0, or errno. What is there already stays; ENOENT: the mapping is gone, or not ours any more.
int copy_pages(int uffd, std::uint64_t to, const std::byte* from, std::uint64_t length) {
  while (length != 0) {
    uffdio_copy request{};
    request.dst = to;
    request.src = reinterpret_cast<std::uint64_t>(from);
    request.len = length;
    if (::ioctl(uffd, UFFDIO_COPY, &request) == 0) return 0;
    const int error = errno;
    std::uint64_t done = request.copy > 0 ? static_cast<std::uint64_t>(request.copy) : 0;
    // An event is waiting to be read: the caller reads it, and comes again.
    if (error == EAGAIN && done == 0) return EAGAIN;
    if (error == EEXIST && done == 0) done = page_size();
    if (done == 0) return error;
    to += done;
    from += done;
    length -= std::min(length, done);
  }
  return 0;
}

int zero_pages(int uffd, std::uint64_t to, std::uint64_t length) {
  while (length != 0) {
    uffdio_zeropage request{};
    request.range = {to, length};
    if (::ioctl(uffd, UFFDIO_ZEROPAGE, &request) == 0) return 0;
    const int error = errno;
    std::uint64_t done = request.zeropage > 0 ? static_cast<std::uint64_t>(request.zeropage) : 0;
    if (error == EAGAIN && done == 0) return EAGAIN;
    if (error == EEXIST && done == 0) done = page_size();
    if (done == 0) return error;
    to += done;
    length -= std::min(length, done);
  }
  return 0;
}

}  // namespace

LazySupply::LazySupply(const StoredProcess& stored, pid_t process)
    : stored_(stored), process_(process), of_block_(stored.chain().blocks().size()) {
  for (const StoredPages& pages : stored.pages()) of_block_[pages.block].push_back(&pages);
}

LazySupply::~LazySupply() {
  stop_.store(true);
  if (server_.joinable()) server_.join();
}

Result<std::unique_ptr<LazySupply>> LazySupply::start(const StoredProcess& stored, pid_t process,
                                                      sys::Descriptor userfaultfd, Runs plain) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kFeatures;
  if (::ioctl(userfaultfd.get(), UFFDIO_API, &api) != 0)
    return Error{"UFFDIO_API for a lazy restart", errno};
  std::unique_ptr<LazySupply> made(new LazySupply(stored, process));
  auto context = std::make_unique<Context>();
  for (const Run& run : plain) {
    if (const int error =
            sys::uffd_register(userfaultfd.get(), range_of(run), UFFDIO_REGISTER_MODE_MISSING);
        error != 0)
      return Error{"UFFDIO_REGISTER for a lazy restart", error, range_of(run)};
    context->absent.push_back({run.start, run.end, run.start});
  }
  context->userfaultfd = std::move(userfaultfd);
  made->contexts_.push_back(std::move(context));
  const NoSignals none;
  made->server_ = std::thread([supply = made.get()] { supply->serve(); });
  return made;
}

Result<Done> LazySupply::finish() {
  if (server_.joinable()) server_.join();
  if (error_.number != 0) return error_;
  return Done{};
}

Result<Done> LazySupply::load(std::uint32_t block) {
  if (loaded_ == block) return Done{};
  const ChainBlock& stored = stored_.chain().blocks()[block];
  pages_.resize(std::size_t{stored.pages} << page_shift());
  loaded_ = kNoBlock;
  if (auto done = stored_.chain().load(stored, pages_, scratch_); !done) return done;
  loaded_ = block;
  return Done{};
}

// Pages that were absent, from one block or from none. The caller knows that they are in one
// Absent. What cannot be brought since the mapping changed is found in an event.
Result<Done> LazySupply::bring(Context& context, const Run& pages) {
  const Context::Absent* const absent = context.find(pages.start);
  if (absent == nullptr) return Done{};
  const std::uint64_t saved = absent->saved_start + (pages.start - absent->start);
  std::uint64_t length = std::min(pages.end, absent->end) - pages.start;
  const auto& all = stored_.pages();
  const auto after =
      std::upper_bound(all.begin(), all.end(), saved,
                       [](std::uint64_t at, const StoredPages& each) { return at < each.start; });
  const StoredPages* const here =
      after != all.begin() && saved < (after - 1)->end ? &*(after - 1) : nullptr;
  if (here != nullptr) {
    length = std::min(length, here->end - saved);
    if (auto loaded = load(here->block); !loaded) return loaded;
  } else if (after != all.end()) {
    length = std::min(length, after->start - saved);
  }
  const auto put = [&](std::uint64_t bytes) {
    if (here == nullptr) return zero_pages(context.userfaultfd.get(), pages.start, bytes);
    return copy_pages(
        context.userfaultfd.get(), pages.start,
        pages_.data() + (std::size_t{here->page_in_block} << page_shift()) + (saved - here->start),
        bytes);
  };
  int error = put(length);
  if (error == ENOENT && length > page_size()) {
    // More than one mapping: the kernel takes what is in one.
    length = page_size();
    error = put(length);
  }
  if (error == EAGAIN) return Done{};
  if (error == ESRCH) {  // the process has ended
    context.gone = true;
    return Done{};
  }
  if (error != 0 && error != ENOENT) return Error{"UFFDIO_COPY of a lazy restart", error};
  context.remove(pages.start, pages.start + length);
  return Done{};
}

// A block that had to be loaded for one page, and checked as a whole, would be loaded again for the
// next one: a program that touches its memory everywhere must not wait for that each time.
Result<Done> LazySupply::bring_rest_of_block(Context& context) {
  if (loaded_ == kNoBlock) return Done{};
  for (const StoredPages* const pages : of_block_[loaded_]) {
    for (Run next = context.first_in(pages->start, pages->end); next.end != 0;
         next = context.first_in(pages->start, pages->end)) {
      if (auto brought = bring(context, next); !brought) return brought;
      // An event is to be read first.
      if (context.gone || context.find(next.start) != nullptr) return Done{};
    }
  }
  return Done{};
}

// RACE an event stops the thread that caused it until it is read here: whatever it does to the
// mapping comes after that, and pages that are brought after that are of the mapping as it will be.
Result<Done> LazySupply::read_events(Context& context, bool& faults) {
  std::array<uffd_msg, 16> events{};
  const ssize_t got = ::read(context.userfaultfd.get(), events.data(), sizeof events);
  faults = false;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Done{};
  if (got <= 0) {
    context.gone = true;
    return Done{};
  }
  std::vector<std::uint64_t> touched;
  for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof events[0]; ++i) {
    const uffd_msg& event = events[i];
    switch (event.event) {
      case UFFD_EVENT_PAGEFAULT:
        touched.push_back(event.arg.pagefault.address & ~(std::uint64_t{page_size()} - 1));
        break;
      case UFFD_EVENT_REMOVE:
        // Pages that are dropped are zero from now on, and are filled so when they are touched.
      case UFFD_EVENT_UNMAP:
        context.remove(event.arg.remove.start, event.arg.remove.end);
        break;
      case UFFD_EVENT_REMAP:
        context.move(event.arg.remap.from, event.arg.remap.to, event.arg.remap.len);
        break;
      case UFFD_EVENT_FORK: {
        auto child = std::make_unique<Context>();
        child->userfaultfd = sys::Descriptor(static_cast<int>(event.arg.fork.ufd));
        ::fcntl(child->userfaultfd.get(), F_SETFL, O_NONBLOCK);
        child->absent = context.absent;
        contexts_.push_back(std::move(child));
        break;
      }
      default:
        break;
    }
  }
  for (const std::uint64_t page : touched) {
    faults = true;
    if (context.find(page) == nullptr) {
      // Dropped since, or brought already.
      static_cast<void>(zero_pages(context.userfaultfd.get(), page, page_size()));
      uffdio_range range{page, page_size()};
      ::ioctl(context.userfaultfd.get(), UFFDIO_WAKE, &range);
      continue;
    }
    if (auto brought = bring(context, {page, page + kAhead}); !brought) return brought;
    uffdio_range range{page, page_size()};
    ::ioctl(context.userfaultfd.get(), UFFDIO_WAKE, &range);
    if (auto brought = bring_rest_of_block(context); !brought) return brought;
  }
  return Done{};
}

void LazySupply::serve() {
  while (!stop_.load()) {
    // contexts_ may grow in the loop.
    bool faults = false;
    bool anything_absent = false;
    for (std::size_t i = 0; i < contexts_.size(); ++i) {
      Context& context = *contexts_[i];
      bool some = false;
      auto done = read_events(context, some);
      if (done && !some && !context.gone && !context.absent.empty()) {
        const Context::Absent next = context.absent.front();
        done = bring(context, {next.start, std::min(next.end, next.start + kByAndBy)});
      }
      if (!done) {
        error_ = done.error();
        // Memory that is damaged must not be taken for memory that is zero.
        ::kill(process_, SIGKILL);
        return;
      }
      faults |= some;
      anything_absent |= !context.gone && !context.absent.empty();
    }
    std::erase_if(contexts_, [](const auto& each) { return each->gone || each->absent.empty(); });
    if (!anything_absent && !faults) return;
  }
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

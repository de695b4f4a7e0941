// The thread that faults are delivered to once objects have been packed: it brings them back, and
// poisons what nobody may touch, so that the access ends in our SIGBUS handler as before.
#include <linux/userfaultfd.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "guard/engine/canary.hpp"
#include "guard/engine/engine.hpp"
#include "sys/company.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

namespace {

constexpr int kLooks = 200;  // 30 us

}  // namespace

bool Engine::start_thread() noexcept {
  stopping_.store(false);
  const NoSignals none;
  const auto run = [](void* self) -> void* {
    const sys::OwnThread own;
    static_cast<Engine*>(self)->serve();
    return nullptr;
  };
  return ::pthread_create(&thread_, nullptr, run, this) == 0;
}

void Engine::stop_thread() noexcept {
  if (!cold_.served.load()) return;
  stopping_.store(true);
  // Waits until the thread has seen it.
  const auto* const last = reinterpret_cast<const volatile std::byte*>(
      layout_.start(1, cold_.staging + Layout::slots_in_chunk(1) - 1));
  static_cast<void>(*last);
  ::pthread_join(thread_, nullptr);
}

namespace {

/// The next message. False: none came, or the descriptor is being replaced.
bool next_message(int uffd, uffd_msg& message) noexcept {
  // Faults come in crowds, and to be woken takes longer than to serve one: it looks for a while.
  for (int looks = 0; looks < kLooks; ++looks)
    if (::read(uffd, &message, sizeof message) == static_cast<ssize_t>(sizeof message)) return true;
  pollfd wait{uffd, POLLIN, 0};
  if (::poll(&wait, 1, 1000) <= 0) return false;
  const ssize_t got = ::read(uffd, &message, sizeof message);
  // EAGAIN: who waited was woken meanwhile. Closed: another descriptor is on its way.
  if (got < 0 && errno != EAGAIN && errno != EINTR) sys::yield();
  return got == static_cast<ssize_t>(sizeof message);
}

}  // namespace

void Engine::serve() noexcept {
  for (;;) {
    uffd_msg message{};
    if (!next_message(pages_.descriptor(), message) || message.event != UFFD_EVENT_PAGEFAULT)
      continue;
    const auto* const address =
        reinterpret_cast<const std::byte*>(std::uintptr_t{message.arg.pagefault.address});
    if (stopping_.load()) {
      pages_.zero(page_of(address));
      return;
    }
    serve_fault(address);
    // The program may touch for long and allocate nothing.
    if (cold_.too_many()) pack_some();
  }
}

void Engine::serve_fault(const std::byte* address) noexcept {
  const PageRange page = page_of(address);
  const SlotPlace place = layout_.find(address);
  while (cold_.bringing.exchange(true, std::memory_order_acquire)) sys::yield();
  const Slot& known = slot(place.size_class, place.number);
  const Facts facts = known.read();
  bool done = false;
  if (facts.state() == SlotState::live &&
      pages_of(place.start, known.offset, facts.size()).contains(page)) {
    if (place.size_class == 1) {
      done = bring_back(place, page);
    } else {
      pages_.zero(page);  // never written, and a fork() left it out
      done = true;
    }
  }
  if (!done) pages_.poison(page);
  cold_.bringing.store(false, std::memory_order_release);
}

// False: it is not live any more.
bool Engine::bring_back(const SlotPlace& place, PageRange page) noexcept {
  // Whoever moves it needs nothing that this thread brings.
  const Packed was = cold_.claim(place.number);
  std::atomic<Packed>& word = cold_.word(place.number);
  const Slot& known = slot(1, place.number);
  const Facts facts = known.read();
  if (facts.state() != SlotState::live) {
    word.store(was, std::memory_order_release);
    return false;
  }
  if (was == kHot) {
    // Another fault on it was served just now; or nobody has written it and a fork() left it out.
    pages_.zero(page);
    word.store(kHot, std::memory_order_release);
    return true;
  }
  std::byte* const image = cold_.image;
  std::memset(image, 0, page_size());
  std::byte* const object = image + known.offset;
  std::memcpy(object, cold_.store.at(was), facts.size());
  plant_canaries(object, facts.size(), {image, image + page_size()});
  if (!pages_.fill(page, image)) {
    // No memory: it is tried again, when whoever waits for it has been woken and faults again.
    word.store(was, std::memory_order_release);
    pages_.wake(page);
    return true;
  }
  cold_.became_more(place.number);
  cold_.brought_back.fetch_add(1, std::memory_order_relaxed);
  word.store(kHot, std::memory_order_release);
  cold_.store.drop(was, facts.size());
  return true;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

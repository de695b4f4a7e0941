#include <pagetrap/pager/policy.hpp>

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace pager {

void FrameList::push_back(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  FrameLinks& links = table.links(frame);
  links = {back_, kNoFrame, number_};
  if (back_ != kNoFrame) {
    table.links(back_).next = frame;
  } else {
    front_ = frame;
  }
  back_ = frame;
  ++size_;
}

void FrameList::push_front(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  FrameLinks& links = table.links(frame);
  links = {kNoFrame, front_, number_};
  if (front_ != kNoFrame) {
    table.links(front_).previous = frame;
  } else {
    back_ = frame;
  }
  front_ = frame;
  ++size_;
}

void FrameList::remove(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  FrameLinks& links = table.links(frame);
  if (links.previous != kNoFrame) {
    table.links(links.previous).next = links.next;
  } else {
    front_ = links.next;
  }
  if (links.next != kNoFrame) {
    table.links(links.next).previous = links.previous;
  } else {
    back_ = links.previous;
  }
  links = {};
  --size_;
}

FrameId FrameList::pop_front(FrameTable& table) noexcept PAGETRAP_SIGNAL_SAFE {
  const FrameId frame = front_;
  if (frame != kNoFrame) remove(table, frame);
  return frame;
}

Policy::~Policy() = default;

// --- GhostQueues ------------------------------------------------------------------------------

namespace {
constexpr std::size_t kProbationShare = 20;  // a twentieth; simulated 1/40 to 1/5: flat from here
}

void GhostQueues::on_fill(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  probation_.push_back(table, frame);
}

// The memory of departures is as long as there are frames: a page that comes back within it would
// have been held by a queue of twice the size.
void GhostQueues::on_refault(FrameTable& table, FrameId frame, std::uint32_t evictions) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::size_t frames = probation_.size() + main_.size() + 1;
  (evictions < frames ? main_ : probation_).push_back(table, frame);
}

bool GhostQueues::prefers_probation() const noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t frames = probation_.size() + main_.size();
  return probation_.size() > std::max<std::size_t>(1, frames / kProbationShare) ||
         main_.size() == 0;
}

std::size_t GhostQueues::victims(FrameTable& table, std::span<FrameId> out) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t count = 0;
  for (; count < out.size(); ++count) {
    FrameList& from = prefers_probation() ? probation_ : main_;
    const FrameId frame = from.pop_front(table);
    if (frame == kNoFrame) break;
    out[count] = frame;
  }
  return count;
}

void GhostQueues::on_event(FrameTable& table, FrameId frame, FrameEvent event) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uint8_t list = table.links(frame).list;
  if (list == probation_.number()) probation_.remove(table, frame);
  if (list == main_.number()) main_.remove(table, frame);
  switch (event) {
    case FrameEvent::kept:
    case FrameEvent::will_need:
      return main_.push_back(table, frame);
    case FrameEvent::dont_need:
      return probation_.push_front(table, frame);
    case FrameEvent::gone:
      return;
  }
}

std::size_t GhostQueues::upcoming(FrameTable& table, std::span<FrameId> out) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t count = 0;
  const FrameId first = prefers_probation() ? probation_.front() : main_.front();
  for (FrameId frame = first; frame != kNoFrame && count < out.size();
       frame = table.links(frame).next)
    out[count++] = frame;
  return count;
}

// --- Fifo -------------------------------------------------------------------------------------

void Fifo::on_fill(FrameTable& table, FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE {
  all_.push_back(table, frame);
}

void Fifo::on_refault(FrameTable& table, FrameId frame, std::uint32_t) noexcept
    PAGETRAP_SIGNAL_SAFE {
  all_.push_back(table, frame);
}

std::size_t Fifo::victims(FrameTable& table, std::span<FrameId> out) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t count = 0;
  while (count < out.size() && all_.size() != 0) out[count++] = all_.pop_front(table);
  return count;
}

void Fifo::on_event(FrameTable& table, FrameId frame, FrameEvent event) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (table.links(frame).list == all_.number()) all_.remove(table, frame);
  if (event == FrameEvent::dont_need) {
    all_.push_front(table, frame);
  } else if (event != FrameEvent::gone) {
    all_.push_back(table, frame);
  }
}

std::size_t Fifo::upcoming(FrameTable& table, std::span<FrameId> out) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t count = 0;
  for (FrameId frame = all_.front(); frame != kNoFrame && count < out.size();
       frame = table.links(frame).next)
    out[count++] = frame;
  return count;
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap

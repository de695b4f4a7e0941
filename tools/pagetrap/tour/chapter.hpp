// The tour's chapters. A new room adds one: a function here, a line in tour.cpp.
#pragma once

namespace pagetrap::tool {

struct TourPace {
  bool quick = false;  // the whole tour in 20 seconds instead of two minutes
};

/// Prints its chapter; false if something that was shown did not work.
using TellChapter = bool (*)(const TourPace& pace);

struct Chapter {
  const char* name;  // of --chapter
  const char* title;
  TellChapter tell;
};

/// The primitives, their price then and now, and what can be built on them in forty lines.
bool tell_ground_floor(const TourPace& pace);

// Its sections.
bool tell_then_and_now(const TourPace& pace);
bool tell_square_roots(const TourPace& pace);
bool tell_break_even(const TourPace& pace);

/// A program saves its memory while it goes on, is killed, and comes back. Defined in checkpoint/
/// linked.cpp or, without that room, in checkpoint/absent.cpp; CMake chooses.
bool tell_checkpoint(const TourPace& pace);

/// An unmodified program is killed twice, and finishes. Defined in restart/linked.cpp or
/// restart/absent.cpp.
bool tell_restart(const TourPace& pace);

/// An index of text in a half and in a quarter of its memory. Defined in compress/linked.cpp or
/// compress/absent.cpp.
bool tell_compress(const TourPace& pace);

/// An index that survives SIGKILL in the middle of a transaction. Defined in store/linked.cpp or
/// store/absent.cpp.
bool tell_store(const TourPace& pace);

/// A program with three mistakes, under malloc and under guards.
bool tell_guard(const TourPace& pace);

/// Objects that move while they are used. Defined in gc/linked.cpp or gc/absent.cpp.
bool tell_gc(const TourPace& pace);

}  // namespace pagetrap::tool

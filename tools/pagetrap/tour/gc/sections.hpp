// The sections of the chapter, which print themselves. False: something shown did not work.
#pragma once

#include "../chapter.hpp"

namespace pagetrap::tool {

/// Programs that make trees and forget them, over three ways to make objects.
bool compare_collectors(const TourPace& pace);
/// An index that is asked while it grows, and what its trace tells.
bool show_live_index(const TourPace& pace);

}  // namespace pagetrap::tool

// Functions that never come back.
#pragma once

namespace pagetrap {

extern "C" {
int calls_itself(int depth);
int calls_itself_twice(int depth);
int first_of_three(int depth);
int second_of_three(int depth);
int third_of_three(int depth);
int with_frames_of_100_kilobytes(int depth);
}

}  // namespace pagetrap

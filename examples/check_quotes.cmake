# Every C++ sample of README.md that names its file stands in that file word for word, so what is
# shown there is what is compiled.
#
#   <!-- from examples/dirty_pages.cpp -->
#   ```cpp
#   ...
#   ```
cmake_minimum_required(VERSION 3.24)
file(READ "${ROOT}/README.md" rest)
set(marker "<!-- from ")
set(fence "```cpp\n")
set(quotes 0)
string(FIND "${rest}" "${marker}" at)
while(NOT at EQUAL -1)
  string(SUBSTRING "${rest}" ${at} -1 rest)
  string(REGEX MATCH "^<!-- from ([^ ]+) -->\n" line "${rest}")
  set(source "${CMAKE_MATCH_1}")
  string(FIND "${rest}" "${fence}" begin)
  string(LENGTH "${fence}" length)
  math(EXPR begin "${begin} + ${length}")
  string(SUBSTRING "${rest}" ${begin} -1 rest)
  string(FIND "${rest}" "```" end)
  string(SUBSTRING "${rest}" 0 ${end} quote)
  file(READ "${ROOT}/${source}" code)
  string(FIND "${code}" "${quote}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "README.md quotes ${source}, which does not contain:\n${quote}")
  endif()
  math(EXPR quotes "${quotes} + 1")
  string(FIND "${rest}" "${marker}" at)
endwhile()
if(quotes EQUAL 0)
  message(FATAL_ERROR "README.md quotes no source file")
endif()
message(STATUS "${quotes} samples compared")

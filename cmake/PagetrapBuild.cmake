# How our own targets are compiled. Nothing here reaches a parent project or an installed target.

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    find_program(PAGETRAP_CCACHE ccache)
    mark_as_advanced(PAGETRAP_CCACHE)
    if(PAGETRAP_CCACHE)
      # It asks to be told that precompiled headers are in use, which it looks into itself.
      set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
        CCACHE_SLOPPINESS=pch_defines,time_macros "${PAGETRAP_CCACHE}")
    endif()
  endif()
endif()

# Directory options, not target options: a sanitizer must cover every object of a program, and
# directory options are not written into the installed package files.
if(PAGETRAP_SANITIZE)
  add_compile_options(-fsanitize=${PAGETRAP_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PAGETRAP_SANITIZE})
  if(PAGETRAP_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan) # fences of the trace ring, which it does not understand
  endif()
endif()

# The language level and the warnings, for every target of ours: libraries, tools, tests.
function(pagetrap_own_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    # g++ 12 sees overlapping copies in "literal" + std::string (bug 105651).
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
    $<$<BOOL:${PAGETRAP_WERROR}>:-Werror>
    # A fault is reported with a backtrace taken inside a signal handler: only frame pointers can
    # be followed there without locks or allocation.
    -fno-omit-frame-pointer)
endfunction()

# The guest has no shared libraries: find the static ones.
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)

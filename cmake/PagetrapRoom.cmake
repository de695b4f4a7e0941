# pagetrap_room(NAME [FOLDERS folder...] [DEPENDS room...] [PKG_CONFIG module...]
#               [DEFAULT_VISIBILITY])
#
# One room of the house: the library target pagetrap_NAME, its alias pagetrap::NAME, the component
# NAME of find_package(pagetrap) and the file pagetrap-NAME.pc.
#
#   FOLDERS             the folders it is made of, below src/ and include/pagetrap/ (default: NAME)
#   DEPENDS             rooms whose headers its own public headers include
#   PKG_CONFIG          system libraries it needs. Where one is missing the room is left out, so
#                       that a user who wants another room is not asked for it.
#   DEFAULT_VISIBILITY  export everything from the shared library, for a room whose private
#                       headers serve other rooms
#
# A room whose folder has no source file yet is left out too.
#
# WHY the glob: a room grows by whole files, and everything in its folder belongs to it, so a list
# would only repeat `ls` and be a place for merge conflicts. CONFIGURE_DEPENDS re-checks the glob on
# every build; what it costs is a few stat calls.
function(pagetrap_room name)
  cmake_parse_arguments(PARSE_ARGV 1 room "DEFAULT_VISIBILITY" "" "FOLDERS;DEPENDS;PKG_CONFIG")
  if(NOT room_FOLDERS)
    set(room_FOLDERS ${name})
  endif()
  set(include_dir "${PROJECT_SOURCE_DIR}/include")
  set(source_dir "${PROJECT_SOURCE_DIR}/src")
  list(TRANSFORM room_FOLDERS PREPEND "${source_dir}/" OUTPUT_VARIABLE source_globs)
  list(TRANSFORM source_globs APPEND "/*.cpp")
  list(TRANSFORM room_FOLDERS PREPEND "${include_dir}/pagetrap/" OUTPUT_VARIABLE header_globs)
  list(TRANSFORM header_globs APPEND "/*.hpp")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${source_globs})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${header_globs})
  if(NOT sources)
    return()
  endif()
  foreach(needed IN LISTS room_DEPENDS)
    if(NOT TARGET pagetrap_${needed})
      message(STATUS "pagetrap: room ${name} is left out, since room ${needed} is")
      return()
    endif()
  endforeach()
  if(room_PKG_CONFIG)
    find_package(PkgConfig QUIET)
    if(PkgConfig_FOUND)
      pkg_check_modules(pagetrap_${name}_system QUIET IMPORTED_TARGET ${room_PKG_CONFIG})
    endif()
    if(NOT pagetrap_${name}_system_FOUND)
      list(JOIN room_PKG_CONFIG ", " modules)
      message(STATUS "pagetrap: room ${name} is left out; pkg-config must know: ${modules}")
      return()
    endif()
  endif()

  set(target pagetrap_${name})
  add_library(${target} ${sources})
  add_library(pagetrap::${name} ALIAS ${target})
  target_sources(${target} PUBLIC
    FILE_SET HEADERS BASE_DIRS "${include_dir}" FILES ${headers})
  target_include_directories(${target} PRIVATE "${source_dir}")
  target_link_libraries(${target} PUBLIC Threads::Threads)  # adds nothing from glibc 2.34 on
  foreach(needed IN LISTS room_DEPENDS)
    target_link_libraries(${target} PUBLIC pagetrap_${needed})
  endforeach()
  if(room_PKG_CONFIG)
    target_link_libraries(${target} PRIVATE PkgConfig::pagetrap_${name}_system)
  endif()

  pagetrap_own_target(${target})
  # The first touch of a dynamic thread_local allocates, which a fault handler must not; see
  # "TLS on the fault path" in the design pages. With initial-exec it does not, also in a dlopen'ed
  # library, as long as our thread-locals stay under 512 bytes.
  target_compile_options(${target} PRIVATE -ftls-model=initial-exec)
  if(NOT room_DEFAULT_VISIBILITY)
    set_target_properties(${target} PROPERTIES
      CXX_VISIBILITY_PRESET hidden
      VISIBILITY_INLINES_HIDDEN ON)
  endif()
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${name}
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}
    INSTALL_RPATH "$ORIGIN"             # the shared libraries of the rooms find each other
    POSITION_INDEPENDENT_CODE ON        # static ones go into the preload shims
    # Every public header compiles alone: target all_verify_interface_header_sets.
    VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})

  if(PAGETRAP_INSTALL)
    pagetrap_install_room(${name} DEPENDS ${room_DEPENDS} PKG_CONFIG ${room_PKG_CONFIG})
  endif()
endfunction()

# Install rules: one export set and one pkg-config file per room, one CMake package for all.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(PAGETRAP_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/pagetrap")

# Called by pagetrap_room().
function(pagetrap_install_room name)
  cmake_parse_arguments(PARSE_ARGV 1 room "" "" "DEPENDS;PKG_CONFIG")
  install(TARGETS pagetrap_${name}
    EXPORT pagetrap-${name}
    FILE_SET HEADERS)
  # An export set per room: a user of one room need not have the system libraries of another.
  install(EXPORT pagetrap-${name}
    NAMESPACE pagetrap::
    FILE pagetrap-${name}-targets.cmake
    DESTINATION "${PAGETRAP_CMAKE_DIR}")

  # From the folder of the .pc file up to the prefix, so that an installed tree may be moved. An
  # absolute library directory (allowed by GNUInstallDirs) cannot be, and keeps its path.
  set(pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
  file(RELATIVE_PATH up "${pc_dir}" "${CMAKE_INSTALL_PREFIX}")
  string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${up}")
  foreach(kind LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
      set(pc_${kind} "${CMAKE_INSTALL_${kind}}")
    else()
      set(pc_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
    endif()
  endforeach()
  list(TRANSFORM room_DEPENDS PREPEND "pagetrap-" OUTPUT_VARIABLE pc_requires)
  list(JOIN pc_requires ", " pc_requires)
  list(JOIN room_PKG_CONFIG ", " pc_requires_private)
  set(pc_room ${name})
  configure_file("${PROJECT_SOURCE_DIR}/cmake/pagetrap-room.pc.in"
    "${PROJECT_BINARY_DIR}/package/pagetrap-${name}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/package/pagetrap-${name}.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

  set_property(GLOBAL APPEND PROPERTY PAGETRAP_ROOMS ${name})
  string(CONCAT rows
    "set(_pagetrap_${name}_depends \"${room_DEPENDS}\")\n"
    "set(_pagetrap_${name}_pkg_config \"${room_PKG_CONFIG}\")\n")
  set_property(GLOBAL APPEND_STRING PROPERTY PAGETRAP_ROOM_TABLE "${rows}")
endfunction()

# Called once, after the last room.
function(pagetrap_install_package_files)
  get_property(rooms GLOBAL PROPERTY PAGETRAP_ROOMS)
  get_property(room_table GLOBAL PROPERTY PAGETRAP_ROOM_TABLE)
  list(JOIN rooms " " rooms)
  configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/pagetrap-config.cmake.in"
    "${PROJECT_BINARY_DIR}/package/pagetrap-config.cmake"
    INSTALL_DESTINATION "${PAGETRAP_CMAKE_DIR}"
    NO_SET_AND_CHECK_MACRO)
  # While the version is 0.x, a minor version may break its users.
  write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/package/pagetrap-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
  install(FILES
    "${PROJECT_BINARY_DIR}/package/pagetrap-config.cmake"
    "${PROJECT_BINARY_DIR}/package/pagetrap-config-version.cmake"
    DESTINATION "${PAGETRAP_CMAKE_DIR}")
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endfunction()

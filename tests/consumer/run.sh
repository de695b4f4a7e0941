#!/usr/bin/env bash
# Build and run the project beside this file the way a user would.
#
# Usage: run.sh WAY     with the PAGETRAP_* variables that CMakeLists.txt sets
#
#   install            install the built tree into a scratch prefix, for the next three
#   find_package       CMake, find_package(pagetrap COMPONENTS vm)
#   pkg_config         no CMake: the compiler and pkg-config
#   unknown_component  find_package of a room that does not exist says so
#   fetch_content      CMake, FetchContent from the source folder
#   shared             as find_package, but with shared libraries: is PAGETRAP_API where it must be?
set -euo pipefail
way="$1"
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/project" && pwd)"
prefix="$PAGETRAP_SCRATCH/prefix"
work="$PAGETRAP_SCRATCH/$way"
rm -rf "$work"
mkdir -p "$work"

# The tree is moved after the installation: what is in it must not know where it was put first.
install_moved() {
  local build="$1" to="$2"
  rm -rf "$to" "$to.first"
  "$CMAKE" --install "$build" --prefix "$to.first"
  mv "$to.first" "$to"
}

configure_consumer() {
  "$CMAKE" -S "$project" -B "$work/build" -DCMAKE_BUILD_TYPE=Release "$@"
}

build_and_run_consumer() {
  configure_consumer "$@"
  "$CMAKE" --build "$work/build" -j 2
  "$work/build/consumer"
}

case "$way" in
  install) install_moved "$PAGETRAP_BUILD" "$prefix" ;;

  find_package) build_and_run_consumer -DCMAKE_PREFIX_PATH="$prefix" ;;

  pkg_config)
    export PKG_CONFIG_PATH="$prefix/$PAGETRAP_LIBDIR/pkgconfig"
    read -ra flags < <(pkg-config --cflags --libs --static pagetrap-vm)
    "$CXX" -std=c++20 "$project/main.cpp" "${flags[@]}" -o "$work/consumer"
    "$work/consumer"
    ;;

  unknown_component)
    if configure_consumer -DCMAKE_PREFIX_PATH="$prefix" -DCOMPONENT=cellar >"$work/log" 2>&1; then
      echo "find_package accepted a component that does not exist" >&2
      exit 1
    fi
    cat "$work/log"
    # CMake wraps messages, so the words are looked for one by one.
    tr -s '[:space:]' ' ' <"$work/log" | grep -q "unknown component 'cellar'"
    ;;

  fetch_content)
    configure_consumer -DPAGETRAP_SOURCE="$PAGETRAP_SOURCE"
    # A parent project gets the library and nothing else.
    if grep -E '^PAGETRAP_(TESTS|TOOLS|BENCH|EXAMPLES|INSTALL|WERROR):BOOL=ON' \
      "$work/build/CMakeCache.txt"; then
      echo "this option is on although we are not the top level" >&2
      exit 1
    fi
    # Of the library only what the consumer needs, and with the options that it was built with
    # already: a compiler cache has all of it.
    configure_consumer -DPAGETRAP_SOURCE="$PAGETRAP_SOURCE" -DPAGETRAP_WERROR=ON
    "$CMAKE" --build "$work/build" -j 2 --target consumer
    "$work/build/consumer"
    ;;

  shared)
    "$CMAKE" -S "$PAGETRAP_SOURCE" -B "$work/library" -DCMAKE_BUILD_TYPE=Release \
      -DBUILD_SHARED_LIBS=ON -DPAGETRAP_TESTS=OFF -DPAGETRAP_TOOLS=OFF -DPAGETRAP_BENCH=OFF \
      -DPAGETRAP_EXAMPLES=OFF
    "$CMAKE" --build "$work/library" -j 2
    install_moved "$work/library" "$work/prefix"
    build_and_run_consumer -DCMAKE_PREFIX_PATH="$work/prefix"
    ;;

  *)
    echo "run.sh: no way '$way'" >&2
    exit 2
    ;;
esac

// What `pagetrap run --guard` was told, from the environment.
#pragma once

#include <pagetrap/guard/heap.hpp>
#include <pagetrap/guard/problem.hpp>

namespace pagetrap::preload {

struct Settings {
  guard::HeapOptions heap;
  guard::ReportOptions report;
  bool check_families = true;
  bool statistics = false;      // a line on standard error at exit
  const char* wrong = nullptr;  // a variable whose value makes no sense
};

/// From /proc/self/environ, since the first malloc comes before the C library has its own copy.
/// Called once; texts stay where they are.
Settings read_settings() noexcept;

}  // namespace pagetrap::preload

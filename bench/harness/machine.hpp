// What the measurements were made on.
#pragma once

#include <string>

namespace pagetrap::bench {

struct Machine {
  std::string cpu;
  int cpus = 0;  // that this process may use
  std::string kernel;
  double memory_bytes = 0;
  double memory_available_bytes = 0;
  double page_bytes = 0;
  double max_map_count = 0;
  std::string huge_pages;   // /sys/kernel/mm/transparent_hugepage/enabled: the chosen word
  std::string governor;     // "unknown" where the kernel does not tell, as in most guests
  std::string mitigations;  // those that make entering the kernel dearer
  bool hypervisor = false;  // a guest: shootdowns and halts cost exits
  bool protection_keys = false;
  bool root = false;
  std::string pagetrap;  // version
};

Machine describe_machine();

/// Bytes that could be used without swapping, 0 if unknown.
double memory_available();

}  // namespace pagetrap::bench

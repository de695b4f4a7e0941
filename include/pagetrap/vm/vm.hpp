// The entrance to pagetrap's ground floor: the virtual-memory primitives of Appel & Li (ASPLOS
// 1991) on today's Linux. docs/design/vm.md explains the mechanisms and the races.
//
//   auto region = pagetrap::Region::create(1_GiB, {.faults =
//   pagetrap::FaultKind::missing}).value(); region.on_fault(handler, self);      // TRAP
//   region.protect(range, Access::read); // PROT1, PROTN
//   region.unprotect(range);             // UNPROT
//   region.dirty(range, pages);          // DIRTY
//   region.map_twice(Access::read_write) // MAP2
#pragma once

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/backend.hpp>
#include <pagetrap/vm/fault.hpp>
#include <pagetrap/vm/features.hpp>
#include <pagetrap/vm/freeze.hpp>
#include <pagetrap/vm/lift.hpp>
#include <pagetrap/vm/region.hpp>
#include <pagetrap/vm/signals.hpp>
#include <pagetrap/vm/view.hpp>
#include <pagetrap/vm/window.hpp>

#include "vm/questions.hpp"

namespace pagetrap::bench {

Questions vm_questions() {
  Questions questions;
  add_trap_roundtrip(questions);
  add_overhead(questions);
  add_dispatch_growth(questions);
  add_threads(questions);
  add_fault_random_split(questions);
  add_freeze(questions);
  add_lift_growth(questions);
  add_dirty_scan(questions);
  add_dirty_write(questions);
  add_dirty_ring(questions);
  add_map_twice(questions);
  add_guard_page(questions);
  add_break_even(questions);
  return questions;
}

}  // namespace pagetrap::bench

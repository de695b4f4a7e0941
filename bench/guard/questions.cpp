#include "guard/questions.hpp"

namespace pagetrap::bench {

Questions guard_questions() {
  Questions questions;
  add_bump(questions);
  add_bump_break_even(questions);
  add_shield(questions);
  add_guarded_programs(questions);
  add_page_pair(questions);
  add_guarded_memory(questions);
  add_stack_capture(questions);
  add_live_objects(questions);
  return questions;
}

}  // namespace pagetrap::bench

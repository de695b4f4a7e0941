#include "guard/questions.hpp"

namespace pagetrap::bench {

Questions guard_questions() {
  Questions questions;
  add_bump(questions);
  add_bump_break_even(questions);
  add_shield(questions);
  return questions;
}

}  // namespace pagetrap::bench

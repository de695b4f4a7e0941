#include "pager/questions.hpp"

namespace pagetrap::bench {

Questions pager_questions() {
  Questions questions;
  add_table(questions);
  add_table_break_even(questions);
  add_file_random(questions);
  return questions;
}

}  // namespace pagetrap::bench

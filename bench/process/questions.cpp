#include "process/questions.hpp"

namespace pagetrap::bench {

Questions process_questions() {
  Questions questions;
  add_process_pauses(questions);
  add_process_restarts(questions);
  add_process_overhead(questions);
  return questions;
}

}  // namespace pagetrap::bench

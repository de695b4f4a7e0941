#include "checkpoint/questions.hpp"

namespace pagetrap::bench {

Questions checkpoint_questions() {
  Questions questions;
  add_cut(questions);
  add_longest_gap(questions);
  add_work_lost(questions);
  add_extra_memory(questions);
  add_increments(questions);
  add_restore(questions);
  add_save_file(questions);
  add_compress(questions);
  add_hash_table(questions);
  add_cow_twin(questions);
  return questions;
}

}  // namespace pagetrap::bench

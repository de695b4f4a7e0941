#include "gc/questions.hpp"

namespace pagetrap::bench {

Questions gc_questions() {
  Questions questions;
  add_trees(questions);
  add_collected_map(questions);
  add_flips(questions);
  add_barriers(questions);
  return questions;
}

}  // namespace pagetrap::bench

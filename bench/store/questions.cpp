#include "store/questions.hpp"

namespace pagetrap::bench {

Questions store_questions() {
  Questions questions;
  add_store_transactions(questions);
  add_store_costs(questions);
  add_store_reads(questions);
  add_store_opening(questions);
  add_store_snapshots(questions);
  add_store_cache_lines(questions);
  add_store_detection(questions);
  add_store_relocation(questions);
  return questions;
}

}  // namespace pagetrap::bench

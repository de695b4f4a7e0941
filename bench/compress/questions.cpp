#include "compress/questions.hpp"

namespace pagetrap::bench {

Questions compress_questions() {
  Questions questions;
  add_bytes_text(questions);
  add_zram(questions);
  add_sqlite(questions);
  add_redis(questions);
  add_python(questions);
  add_plain(questions);
  return questions;
}

}  // namespace pagetrap::bench

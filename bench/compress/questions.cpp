#include "compress/questions.hpp"

namespace pagetrap::bench {

Questions compress_questions() {
  Questions questions;
  add_bytes_text(questions);
  return questions;
}

}  // namespace pagetrap::bench

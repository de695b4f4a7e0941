#include "statistics.hpp"

#include "../text/json_writer.hpp"

namespace pagetrap::tool::process {

std::string json_of(const checkpoint::ProcessStatistics& s) {
  JsonWriter json;
  json.begin_object()
      .member("schema", "pagetrap-checkpoint/1")
      .member("file", s.path)
      .member("id", checkpoint::text(s.id))
      .member("parent", checkpoint::text(s.parent))
      .member("generation", s.generation)
      .member("threads", std::uint64_t{s.threads})
      .member("protecting_us", s.protecting_us)
      .member("freezing_us", s.freezing_us)
      .member("frozen_us", s.frozen_us)
      .member("save_us", s.save_us)
      .member("forked", s.forked)
      .member("tracked", s.tracked)
      .member("pages_scanned", s.pages_scanned)
      .member("pages_copied", s.pages_copied)
      .member("pages_written", s.pages_written)
      .member("pages_zero", s.pages_zero)
      .member("pages_duplicate", s.pages_duplicate)
      .member("pages_skipped_parent", s.pages_skipped_parent)
      .member("bytes", s.bytes)
      .end_object();
  std::string line;
  bool space = false;
  for (const char c : json.text()) {  // on one line
    if (c == '\n') {
      space = true;
    } else if (!space || c != ' ') {
      space = false;
      line += c;
    }
  }
  return line;
}

}  // namespace pagetrap::tool::process

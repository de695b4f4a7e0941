// The same text indexed in a persistent store, in LMDB and in SQLite, one after the other.
#pragma once

#include <cstdint>
#include <string>

#include "../../../../examples/text_corpus.hpp"

namespace pagetrap::tool {

/// Prints the table of indexing the first so many `documents`, fewer if one of them takes longer
/// than `seconds`. False if one of them gave other answers, or failed. `directory` is on a disk.
bool compare_sides(const example::Corpus& corpus, const std::string& directory,
                   std::uint32_t documents, double seconds);

}  // namespace pagetrap::tool

// Instead of the rest of this folder, where the gc room is not built.
#include "gc/questions.hpp"

namespace pagetrap::bench {

Questions gc_questions() { return {}; }

}  // namespace pagetrap::bench

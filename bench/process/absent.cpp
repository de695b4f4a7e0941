// Instead of the rest of this folder, where whole processes cannot be saved.
#include "process/questions.hpp"

namespace pagetrap::bench {

Questions process_questions() { return {}; }

}  // namespace pagetrap::bench

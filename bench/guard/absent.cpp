// Instead of the rest of this folder, where guards are not built.
#include "guard/questions.hpp"

namespace pagetrap::bench {

Questions guard_questions() { return {}; }

}  // namespace pagetrap::bench

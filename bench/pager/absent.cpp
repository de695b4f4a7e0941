// Instead of the rest of this folder, where the pager is not built.
#include "pager/questions.hpp"

namespace pagetrap::bench {

Questions pager_questions() { return {}; }

}  // namespace pagetrap::bench

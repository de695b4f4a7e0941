// Instead of the rest of this folder, where the store is not built.
#include "store/questions.hpp"

namespace pagetrap::bench {

Questions store_questions() { return {}; }

}  // namespace pagetrap::bench

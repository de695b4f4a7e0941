// Instead of the rest of this folder, where checkpoints are not built.
#include "checkpoint/questions.hpp"

namespace pagetrap::bench {

Questions checkpoint_questions() { return {}; }

}  // namespace pagetrap::bench

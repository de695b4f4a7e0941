// Instead of the rest of this folder, where compressed memory is not built.
#include "compress/questions.hpp"

namespace pagetrap::bench {

Questions compress_questions() { return {}; }

}  // namespace pagetrap::bench

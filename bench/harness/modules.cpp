// The modules that have benchmarks. A new one is a line here, and a folder in bench/.
#include <array>

#include "checkpoint/questions.hpp"
#include "compress/questions.hpp"
#include "gc/questions.hpp"
#include "guard/questions.hpp"
#include "harness/question.hpp"
#include "pager/questions.hpp"
#include "process/questions.hpp"
#include "store/questions.hpp"
#include "vm/questions.hpp"

namespace pagetrap::bench {

std::span<const Module> modules() {
  // A list and not self-registering objects: a linker drops those from a static library.
  static const std::array<Module, 8> kModules{Module{"vm", vm_questions},
                                              Module{"pager", pager_questions},
                                              Module{"compress", compress_questions},
                                              Module{"checkpoint", checkpoint_questions},
                                              Module{"process", process_questions},
                                              Module{"store", store_questions},
                                              Module{"gc", gc_questions},
                                              Module{"guard", guard_questions}};
  return kModules;
}

}  // namespace pagetrap::bench

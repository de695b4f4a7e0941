#include "sys/switches.hpp"

namespace pagetrap::sys {

constinit Switches switches;

}  // namespace pagetrap::sys

// Names of sockets, for people.
#pragma once

#include <string>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// As "TCP socket 127.0.0.1:6379", the other end if there is one, else its own.
std::string describe_socket(int pidfd, int number);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

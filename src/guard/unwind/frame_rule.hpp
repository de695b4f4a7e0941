// FrameRule: how to get from a function's frame to its caller's, at one instruction. Read from
// .eh_frame, which all code on x86-64 has, with frame pointers or without.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct FrameRule {
  enum class Frame : std::uint8_t {
    none,         // nothing is known: the stack ends here
    from_sp,      // the caller's stack pointer is sp + frame_offset
    from_bp,      // bp + frame_offset
    at_bp,        // the word at bp + frame_offset (functions that align their stack)
    interrupted,  // a signal frame: the interrupted registers are on the stack
  };
  enum class SavedBp : std::uint8_t { unchanged, in_frame, at_bp };

  Frame frame = Frame::none;
  SavedBp saved_bp = SavedBp::unchanged;
  std::int32_t frame_offset = 0;
  std::int32_t bp_offset = 0;  // from the caller's stack pointer (in_frame), or from bp
};

/// The rule at `pc`, which lies in a function (for a return address: one less). Allocates nothing
/// and takes no lock. Cost about a microsecond.
FrameRule find_frame_rule(std::uintptr_t pc) noexcept PAGETRAP_SIGNAL_SAFE;
/// The first instruction of the function that holds `pc`. 0: it is in no table.
std::uintptr_t function_at(std::uintptr_t pc) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

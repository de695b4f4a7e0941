// SOURCE DWARF 5, section 6.4 (call frame information); Linux Standard Base, .eh_frame_hdr and its
// encodings. Only what compilers make for x86-64 is understood; anything else ends the stack.
#include "guard/unwind/frame_rule.hpp"

#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "guard/unwind/reader.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// What a common entry says for all functions that name it.
struct Common {
  std::uint64_t code_unit = 1;
  std::int64_t data_unit = 1;
  Byte pointer_encoding = 0;
  bool has_augmentation_data = false;
  bool signal_frame = false;
  const Byte* begin = nullptr;  // of its instructions
  const Byte* end = nullptr;
};

bool read_common(const Byte* entry, Common& common) noexcept {
  const auto length = load<std::uint32_t>(entry);
  if (length == 0 || length == 0xffffffffU) return false;
  common.end = entry + 4 + length;
  Reader from(entry + 8, common.end);
  const Byte version = from.byte();
  if (version != 1 && version != 3) return false;
  const char* letters = reinterpret_cast<const char*>(from.at());
  from.skip(std::strlen(letters) + 1);
  common.code_unit = from.unsigned_leb();
  common.data_unit = from.signed_leb();
  if (version == 1) {
    from.skip(1);
  } else {
    from.unsigned_leb();
  }
  bool known = true;
  if (*letters == 'z') {
    common.has_augmentation_data = true;
    const std::uint64_t size = from.unsigned_leb();
    const Byte* const after = from.at() + size;
    for (++letters; *letters != '\0' && known; ++letters) {
      if (*letters == 'R') {
        common.pointer_encoding = from.byte();
      } else if (*letters == 'P') {
        const Byte encoding = from.byte();
        encoded(from, encoding, known);
      } else if (*letters == 'L') {
        from.skip(1);
      } else if (*letters == 'S') {
        common.signal_frame = true;
      } else {
        break;
      }
    }
    common.begin = after;
  } else {
    common.begin = from.at();
  }
  return known;
}

constexpr unsigned kBp = 6;  // DWARF's numbers of rbp, rsp and the return address
constexpr unsigned kSp = 7;
constexpr unsigned kReturn = 16;

struct Row {
  FrameRule rule;
  bool ended = false;  // the return address is undefined: the outermost function
};

// DW_OP_breg6 n, DW_OP_deref: the word at bp + n.
bool at_bp(Reader& block, std::int32_t& offset, bool with_deref) noexcept {
  if (block.byte() != 0x70 + kBp) return false;
  offset = static_cast<std::int32_t>(block.signed_leb());
  if (with_deref && (!block.more() || block.byte() != 0x06)) return false;
  return !block.more();
}

class Machine {
 public:
  Machine(const Common& common, std::uintptr_t location) noexcept
      : common_(common), location_(location) {}
  Row row;

  /// Until the row of `pc` is complete. False: an instruction that is not understood.
  bool run(const Byte* begin, const Byte* end, std::uintptr_t pc) noexcept {
    Reader from(begin, end);
    while (from.more()) {
      const Byte code = from.byte();
      const Byte low = code & 0x3f;
      switch (code & 0xc0) {
        case 0x40:  // advance_loc
          if (!advance(low, pc)) return true;
          continue;
        case 0x80:  // offset
          saved(low, static_cast<std::int64_t>(from.unsigned_leb()) * common_.data_unit);
          continue;
        case 0xc0:  // restore
          restored(low);
          continue;
        default:
          break;
      }
      bool done = false;
      if (!extended(code, from, pc, done)) return false;
      if (done) return true;
    }
    return true;
  }
  /// The common entry's instructions have run: what `restore` goes back to.
  void keep_initial() noexcept { initial_ = row; }

 private:
  bool advance(std::uint64_t units, std::uintptr_t pc) noexcept {
    location_ += units * common_.code_unit;
    return location_ <= pc;
  }
  void saved(std::uint64_t which, std::int64_t offset) noexcept {
    if (which != kBp) return;
    row.rule.saved_bp = FrameRule::SavedBp::in_frame;
    row.rule.bp_offset = static_cast<std::int32_t>(offset);
  }
  void restored(std::uint64_t which) noexcept {
    if (which != kBp) return;
    row.rule.saved_bp = initial_.rule.saved_bp;
    row.rule.bp_offset = initial_.rule.bp_offset;
  }
  void frame(std::uint64_t which, std::int64_t offset) noexcept {
    row.rule.frame = which == kSp   ? FrameRule::Frame::from_sp
                     : which == kBp ? FrameRule::Frame::from_bp
                                    : FrameRule::Frame::none;
    row.rule.frame_offset = static_cast<std::int32_t>(offset);
  }

  bool extended(Byte code, Reader& from, std::uintptr_t pc, bool& done) noexcept {
    switch (code) {
      case 0x00:  // nop
        return true;
      case 0x01: {  // set_loc
        bool known = true;
        location_ = encoded(from, common_.pointer_encoding, known);
        done = location_ > pc;
        return known;
      }
      case 0x02:
        done = !advance(from.byte(), pc);
        return true;
      case 0x03:
        done = !advance(from.fixed<std::uint16_t>(), pc);
        return true;
      case 0x04:
        done = !advance(from.fixed<std::uint32_t>(), pc);
        return true;
      case 0x05: {  // offset_extended
        const std::uint64_t which = from.unsigned_leb();
        saved(which, static_cast<std::int64_t>(from.unsigned_leb()) * common_.data_unit);
        return true;
      }
      case 0x06:  // restore_extended
        restored(from.unsigned_leb());
        return true;
      case 0x07: {  // undefined
        if (from.unsigned_leb() == kReturn) row.ended = true;
        return true;
      }
      case 0x08:  // same_value
        if (from.unsigned_leb() == kBp) row.rule.saved_bp = FrameRule::SavedBp::unchanged;
        return true;
      case 0x09:  // register: not for ours
        from.unsigned_leb();
        from.unsigned_leb();
        return true;
      case 0x0a:  // remember_state
        if (depth_ == remembered_.size()) return false;
        remembered_[depth_++] = row;
        return true;
      case 0x0b:  // restore_state
        if (depth_ == 0) return false;
        row = remembered_[--depth_];
        return true;
      case 0x0c: {  // def_cfa
        const std::uint64_t which = from.unsigned_leb();
        frame(which, static_cast<std::int64_t>(from.unsigned_leb()));
        return true;
      }
      case 0x0d:  // def_cfa_register
        frame(from.unsigned_leb(), row.rule.frame_offset);
        return true;
      case 0x0e:  // def_cfa_offset
        row.rule.frame_offset = static_cast<std::int32_t>(from.unsigned_leb());
        return true;
      case 0x0f: {  // def_cfa_expression
        const std::uint64_t size = from.unsigned_leb();
        Reader block(from.at(), from.at() + size);
        from.skip(size);
        row.rule.frame = at_bp(block, row.rule.frame_offset, true) ? FrameRule::Frame::at_bp
                                                                   : FrameRule::Frame::none;
        return true;
      }
      case 0x10:    // expression
      case 0x16: {  // val_expression
        const std::uint64_t which = from.unsigned_leb();
        const std::uint64_t size = from.unsigned_leb();
        Reader block(from.at(), from.at() + size);
        from.skip(size);
        if (which != kBp) return true;
        row.rule.saved_bp = FrameRule::SavedBp::at_bp;
        return code == 0x10 && at_bp(block, row.rule.bp_offset, false);
      }
      case 0x11: {  // offset_extended_sf
        const std::uint64_t which = from.unsigned_leb();
        saved(which, from.signed_leb() * common_.data_unit);
        return true;
      }
      case 0x12: {  // def_cfa_sf
        const std::uint64_t which = from.unsigned_leb();
        frame(which, from.signed_leb() * common_.data_unit);
        return true;
      }
      case 0x13:  // def_cfa_offset_sf
        row.rule.frame_offset = static_cast<std::int32_t>(from.signed_leb() * common_.data_unit);
        return true;
      case 0x2e:  // GNU_args_size
        from.unsigned_leb();
        return true;
      default:
        return false;
    }
  }

  const Common& common_;
  std::uintptr_t location_;
  Row initial_;
  std::array<Row, 8> remembered_;
  std::size_t depth_ = 0;
};

// The function that holds `pc`, by the table that the linker sorted.
const Byte* find_function(const Byte* header, std::uintptr_t pc) noexcept {
  // version 1, eh_frame's pointer pc-relative sdata4, count udata4, table data-relative sdata4
  if (header[0] != 1 || header[2] != 0x03 || header[3] != 0x3b || header[1] == kOmitted)
    return nullptr;
  Reader from(header + 4, header + 16);
  bool known = true;
  encoded(from, header[1], known);
  if (!known) return nullptr;
  const std::size_t count = from.fixed<std::uint32_t>();
  const Byte* const table = from.at();
  const auto base = reinterpret_cast<std::uintptr_t>(header);
  const auto start_of = [&](std::size_t i) {
    return base + static_cast<std::uintptr_t>(std::int64_t{load<std::int32_t>(table + 8 * i)});
  };
  std::size_t low = 0;
  std::size_t high = count;
  while (high - low > 1) {
    const std::size_t middle = (low + high) / 2;
    (start_of(middle) <= pc ? low : high) = middle;
  }
  if (count == 0 || start_of(low) > pc) return nullptr;
  return header + std::int64_t{load<std::int32_t>(table + 8 * low + 4)};
}

// What the tables say of the function at an instruction.
struct Function {
  Common common;
  std::uintptr_t start = 0;
  const Byte* begin = nullptr;  // of its instructions; null: there is none
  const Byte* end = nullptr;
};

Function read_function(std::uintptr_t pc) noexcept {
  dl_find_object module{};
  if (::_dl_find_object(reinterpret_cast<void*>(pc), &module) != 0 ||
      module.dlfo_eh_frame == nullptr)
    return {};
  const Byte* const entry = find_function(static_cast<const Byte*>(module.dlfo_eh_frame), pc);
  if (entry == nullptr) return {};
  const auto length = load<std::uint32_t>(entry);
  const auto to_common = load<std::uint32_t>(entry + 4);
  if (length == 0 || length == 0xffffffffU || to_common == 0) return {};
  Function function;
  if (!read_common(entry + 4 - to_common, function.common)) return {};
  function.end = entry + 4 + length;
  Reader from(entry + 8, function.end);
  bool known = true;
  function.start = encoded(from, function.common.pointer_encoding, known);
  const std::uintptr_t size = encoded(from, function.common.pointer_encoding & 0x0f, known);
  if (!known || pc - function.start >= size) return {};
  if (function.common.has_augmentation_data) {
    const std::uint64_t skipped = from.unsigned_leb();
    from.skip(skipped);
  }
  function.begin = from.at();
  return function;
}

FrameRule read_rule(std::uintptr_t pc) noexcept {
  const Function function = read_function(pc);
  if (function.begin == nullptr) return {};
  if (function.common.signal_frame) {
    FrameRule rule;
    rule.frame = FrameRule::Frame::interrupted;
    return rule;
  }
  Machine machine(function.common, function.start);
  // All of the common ones, wherever pc is.
  if (!machine.run(function.common.begin, function.common.end, ~std::uintptr_t{0})) return {};
  machine.keep_initial();
  if (!machine.run(function.begin, function.end, pc) || machine.row.ended) return {};
  return machine.row.rule;
}

}  // namespace

FrameRule find_frame_rule(std::uintptr_t pc) noexcept PAGETRAP_SIGNAL_SAFE { return read_rule(pc); }

std::uintptr_t function_at(std::uintptr_t pc) noexcept PAGETRAP_SIGNAL_SAFE {
  const Function function = read_function(pc);
  return function.begin != nullptr ? function.start : 0;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

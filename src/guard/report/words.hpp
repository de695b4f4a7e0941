// A finding in words, for people and for machines.
#pragma once

#include <pagetrap/core/signal_safe_text.hpp>

#include "guard/report/finding.hpp"
#include "guard/report/symbols.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// A whole report.
using Text = BasicSignalSafeText<48 * 1024>;

struct Recursion;  // stacks/recursion.hpp

/// What every writer needs, collected once.
struct Account {
  const Finding* finding = nullptr;
  const Recursion* recursion = nullptr;  // of a stack that was used up
  Frames here;                           // who did it, or a turn of the recursion
  Frames allocated;                      // or what the recursion had called
  Frames freed;
  Symbols symbols;  // stacks 0 here, 1 allocated, 2 freed
};

/// Stable, for machines: "use-after-free".
std::string_view name_of(Problem problem) noexcept PAGETRAP_SIGNAL_SAFE;
std::string_view name_of(Family family) noexcept PAGETRAP_SIGNAL_SAFE;

/// The first line: all that matters.
void write_headline(const Finding& finding, Text& text) noexcept PAGETRAP_SIGNAL_SAFE;
/// The stacks.
void write_stacks(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE;
/// One line of JSON, schema pagetrap-guard/1.
void write_json(const Account& account, Text& text) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap

#include "checkpoint/process/kernel_pages.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/tracee.hpp"
#include "checkpoint/process/vdso.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

std::vector<MapLine> own_pieces() {
  std::vector<MapLine> pieces;
  const auto text = read_whole("/proc/self/maps");
  if (!text) return pieces;
  for (MapLine& line : parse_maps(*text))
    if (line.name == "[vdso]" || line.name.starts_with("[vvar")) pieces.push_back(std::move(line));
  return pieces;
}

std::vector<const Mapping*> pieces_of(const Record& record) {
  std::vector<const Mapping*> pieces;
  for (const Mapping& mapping : record.mappings)
    if (mapping.kind == MappingKind::vdso || mapping.kind == MappingKind::vvar)
      pieces.push_back(&mapping);
  return pieces;
}

}  // namespace

void move_kernel_pages(const Run& from, std::uint64_t place, CallList& list) {
  for (const MapLine& piece : own_pieces())
    list.add(SYS_mremap, piece.start, piece.end - piece.start, piece.end - piece.start,
             MREMAP_MAYMOVE | MREMAP_FIXED, place + (piece.start - from.start));
}

void place_kernel_pages(const Record& record, const Run& from, std::uint64_t place,
                        CallList& list) {
  const std::vector<MapLine> own = own_pieces();
  const std::vector<const Mapping*> wanted = pieces_of(record);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::uint64_t length = wanted[i]->end - wanted[i]->start;
    list.add(SYS_mremap, place + (own[i].start - from.start), length, length,
             MREMAP_MAYMOVE | MREMAP_FIXED, wanted[i]->start);
  }
}

bool kernel_pages_fit(const Record& record) {
  const std::vector<MapLine> own = own_pieces();
  const std::vector<const Mapping*> wanted = pieces_of(record);
  if (own.size() != wanted.size()) return false;
  for (std::size_t i = 0; i < own.size(); ++i) {
    if (own[i].end - own[i].start != wanted[i]->end - wanted[i]->start) return false;
    if ((own[i].name == "[vdso]") != (wanted[i]->kind == MappingKind::vdso)) return false;
    // What lies between them is part of how the code finds its data.
    if (own[i].start - own[0].start != wanted[i]->start - wanted[0]->start) return false;
    if (own[i].name == "[vdso]" &&
        (record.vdso.size() != own[i].end - own[i].start ||
         std::memcmp(record.vdso.data(), reinterpret_cast<const void*>(own[i].start),
                     record.vdso.size()) != 0))
      return false;
  }
  return true;
}

LeadingVdso lead_to_new_vdso(const Record& record, const Run& from, std::uint64_t place,
                             Refusals& refusals) {
  LeadingVdso leading;
  for (const Mapping* const piece : pieces_of(record))
    if (piece->kind == MappingKind::vdso) leading.place = {piece->start, piece->end};
  if (leading.place.end == 0) return leading;
  if (record.vdso.size() != leading.place.end - leading.place.start) {
    refusals.add("the kernel: the image has no vdso of " + record.kernel);
    return leading;
  }
  for (const MapLine& piece : own_pieces()) {
    if (piece.name != "[vdso]") continue;
    const std::span now(reinterpret_cast<const std::byte*>(piece.start), piece.end - piece.start);
    std::vector<std::string> missing;
    leading.bytes = lead_to(record.vdso, now, place + (piece.start - from.start), missing);
    for (const std::string& name : missing)
      refusals.add("the kernel: its vdso lacks " + name + ", which that of " + record.kernel +
                   " has");
  }
  if (leading.bytes.empty()) refusals.add("the kernel: it has no vdso");
  for (const Thread& thread : record.threads) {
    Registers registers{};
    if (thread.registers.size() != sizeof registers) continue;  // is found out later
    std::memcpy(&registers, thread.registers.data(), sizeof registers);
    if (registers.rip >= leading.place.start && registers.rip < leading.place.end)
      refusals.add("the kernel: thread " + std::to_string(thread.id) + " was inside the vdso of " +
                   record.kernel + "; an older image may do");
  }
  return leading;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

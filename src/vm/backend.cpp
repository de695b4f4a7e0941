// The backends as records, and which of them serves what.
#include <pagetrap/vm/backend.hpp>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>

#include <pagetrap/vm/features.hpp>

#include "vm/choose_backend.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

struct Entry {
  BackendId id;
  const char* name;
  const char* mechanism;
  const char* needs;  // the feature without which it is not there; null: always there
  const BackendOperations* operations;
};

// In order of preference.
const std::array<Entry, 5> kEntries = {{
    {BackendId::uffd_inline, "uffd-inline", "userfaultfd, SIGBUS in the faulting thread",
     "uffd.sigbus", &kUffdInlineOperations},
    {BackendId::uffd_thread, "uffd-thread", "userfaultfd, messages to handler threads", "uffd",
     &kUffdThreadOperations},
    {BackendId::mprotect, "mprotect", "mprotect and SIGSEGV in the faulting thread", nullptr,
     &kMprotectOperations},
    {BackendId::pkey, "pkey", "a protection key for the whole region, SIGSEGV", "pkey",
     &kPkeyOperations},
    {BackendId::null, "null", "no protection; Region::touch() reports what would fault", nullptr,
     &kNullOperations},
}};

const Feature* find_feature(const char* id) {
  for (const Feature& feature : features())
    if (std::string_view(feature.id) == id) return &feature;
  return nullptr;
}

Backend describe_entry(const Entry& entry) {
  Backend backend{entry.id, entry.name, entry.mechanism, true, "", ""};
  const Feature* const feature = entry.needs != nullptr ? find_feature(entry.needs) : nullptr;
  if (feature != nullptr && !feature->available) {
    backend.available = false;
    backend.reason = ::strerrordesc_np(feature->error);
    backend.remedy = feature->remedy;
  }
  return backend;
}

FaultSet all_kinds() {
  return FaultKind::missing | FaultKind::minor | FaultKind::write_protected | FaultKind::no_access;
}

FaultSet uffd_faults(Backing backing) {
  if (backing == Backing::file) return {};  // userfaultfd knows anonymous memory and tmpfs only
  FaultSet faults = FaultKind::missing;
  if (has_feature("uffd.wp") && (backing == Backing::anonymous || has_feature("uffd.wp_shmem")))
    faults = faults | FaultKind::write_protected;
  if (backing == Backing::memfd && has_feature("uffd.minor_shmem"))
    faults = faults | FaultKind::minor | FaultKind::no_access;
  return faults;
}

Capabilities uffd_capabilities(BackendId id, Backing backing) {
  Capabilities can;
  can.faults = uffd_faults(backing);
  can.per_page = true;
  can.faulting_thread = id == BackendId::uffd_inline;
  can.handler_thread = id == BackendId::uffd_thread;
  can.kernel_accesses = id == BackendId::uffd_thread && has_feature("uffd.kernel_mode");
  can.no_splits = true;
  return can;
}

Capabilities mprotect_capabilities(Backing backing) {
  Capabilities can;
  can.faults = FaultKind::write_protected | FaultKind::no_access;
  if (backing != Backing::anonymous) can.faults = all_kinds();
  if (backing == Backing::anonymous && has_feature("proc.mem_force"))
    can.faults = can.faults | FaultKind::missing;
  can.per_page = true;
  can.faulting_thread = true;
  return can;
}

struct Described {
  const Feature* of = nullptr;  // what features() said
  std::array<Backend, kEntries.size()> all;
  const Described* earlier = nullptr;
};
constinit std::atomic<const Described*> g_described{nullptr};  // as g_probe in features.cpp

}  // namespace

std::span<const Backend> backends() {
  const Feature* const known = features().data();
  const Described* described = g_described.load(std::memory_order_acquire);
  if (described != nullptr && described->of == known) return described->all;
  auto fresh = std::make_unique<Described>();
  fresh->of = known;
  for (std::size_t i = 0; i < fresh->all.size(); ++i) fresh->all[i] = describe_entry(kEntries[i]);
  fresh->earlier = described;
  if (g_described.compare_exchange_strong(described, fresh.get())) return fresh.release()->all;
  return described->all;
}

Capabilities capabilities(BackendId id, Backing backing) {
  for (const Backend& backend : backends())
    if (backend.id == id && !backend.available) return {};
  Capabilities can;
  switch (id) {
    case BackendId::uffd_inline:
    case BackendId::uffd_thread:
      return uffd_capabilities(id, backing);
    case BackendId::mprotect:
      return mprotect_capabilities(backing);
    case BackendId::pkey:
      can.faults = FaultKind::write_protected | FaultKind::no_access;
      can.faulting_thread = true;
      can.no_splits = can.no_shootdown = true;
      return can;
    case BackendId::null:
      can.faults = all_kinds();
      can.per_page = can.faulting_thread = can.no_splits = can.no_shootdown = true;
      return can;
    case BackendId::best:
      break;
  }
  return can;
}

const char* name(BackendId id) noexcept {
  for (const Entry& entry : kEntries)
    if (entry.id == id) return entry.name;
  return "best";
}

std::optional<BackendId> backend_named(std::string_view name) noexcept {
  if (name == "best") return BackendId::best;
  for (const Entry& entry : kEntries)
    if (name == entry.name) return entry.id;
  return std::nullopt;
}

const BackendOperations& operations_of(BackendId id) noexcept {
  for (const Entry& entry : kEntries)
    if (entry.id == id) return *entry.operations;
  return kNullOperations;
}

}  // namespace v0
}  // namespace pagetrap

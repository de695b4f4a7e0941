#include "checkpoint/process/vdso.hpp"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

template <class Record>
std::optional<Record> at(std::span<const std::byte> bytes, std::uint64_t offset) {
  Record record;
  if (offset > bytes.size() || bytes.size() - offset < sizeof record) return std::nullopt;
  std::memcpy(&record, bytes.data() + offset, sizeof record);
  return record;
}

struct Tables {
  std::uint64_t symbols = 0;
  std::uint64_t names = 0;
};

// Addresses in the file are offsets: it is linked at 0, or at `bias`.
std::optional<Tables> find_tables(std::span<const std::byte> bytes, std::uint64_t& bias) {
  const auto header = at<Elf64_Ehdr>(bytes, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return std::nullopt;
  std::optional<Elf64_Phdr> dynamic;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    const auto segment = at<Elf64_Phdr>(bytes, header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) return std::nullopt;
    if (segment->p_type == PT_LOAD && segment->p_offset == 0) bias = segment->p_vaddr;
    if (segment->p_type == PT_DYNAMIC) dynamic = segment;
  }
  if (!dynamic) return std::nullopt;
  Tables tables;
  for (std::uint64_t i = 0; i < dynamic->p_filesz / sizeof(Elf64_Dyn); ++i) {
    const auto entry = at<Elf64_Dyn>(bytes, dynamic->p_offset + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) break;
    if (entry->d_tag == DT_SYMTAB) tables.symbols = entry->d_un.d_ptr - bias;
    if (entry->d_tag == DT_STRTAB) tables.names = entry->d_un.d_ptr - bias;
  }
  if (tables.symbols == 0 || tables.names <= tables.symbols) return std::nullopt;
  return tables;
}

}  // namespace

std::map<std::string, std::uint64_t> vdso_functions(std::span<const std::byte> bytes) {
  std::map<std::string, std::uint64_t> functions;
  std::uint64_t bias = 0;
  const auto tables = find_tables(bytes, bias);
  if (!tables) return functions;
  // The names follow the symbols, as linkers lay them out.
  const std::uint64_t count = (tables->names - tables->symbols) / sizeof(Elf64_Sym);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto symbol = at<Elf64_Sym>(bytes, tables->symbols + i * sizeof(Elf64_Sym));
    if (!symbol) break;
    const std::uint64_t name = tables->names + symbol->st_name;
    const std::uint64_t offset = symbol->st_value - bias;
    if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF ||
        name >= bytes.size() || offset >= bytes.size())
      continue;
    const auto* const text = reinterpret_cast<const char*>(bytes.data() + name);
    functions.emplace(std::string(text, ::strnlen(text, bytes.size() - name)), offset);
  }
  return functions;
}

std::vector<std::byte> lead_to(std::span<const std::byte> old, std::span<const std::byte> now,
                               std::uint64_t address, std::vector<std::string>& missing) {
  std::vector<std::byte> patched(old.begin(), old.end());
  const auto known = vdso_functions(now);
  const auto wanted = vdso_functions(old);
  if (wanted.empty()) missing.emplace_back("all functions");
  for (const auto& [name, offset] : wanted) {
    const auto found = known.find(name);
    // mov $target, %rax; jmp *%rax: at a function's entry rax means nothing.
    std::array<unsigned char, 12> jump{0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    if (found == known.end() || offset + jump.size() > patched.size()) {
      missing.push_back(name);
      continue;
    }
    const std::uint64_t target = address + found->second;
    std::memcpy(jump.data() + 2, &target, sizeof target);
    std::memcpy(patched.data() + offset, jump.data(), jump.size());
  }
  return patched;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

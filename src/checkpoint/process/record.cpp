#include "checkpoint/process/record.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// What is in a record, in its order. Archive is Encoder or Decoder.
template <class Archive>
void fields(Archive& a, FileIdentity& file) {
  a(file.path, file.device, file.inode, file.size, file.modified_ns, file.mode);
}
template <class Archive>
void fields(Archive& a, Run& run) {
  a(run.start, run.end);
}
template <class Archive>
void fields(Archive& a, Mapping& mapping) {
  a(mapping.start, mapping.end, mapping.protection, mapping.kind, mapping.offset, mapping.object,
    mapping.advice, mapping.file, mapping.own);
}
template <class Archive>
void fields(Archive& a, Disposition& disposition) {
  a(disposition.handler, disposition.flags, disposition.restorer, disposition.mask);
}
template <class Archive>
void fields(Archive& a, Thread& thread) {
  a(thread.id, thread.name, thread.registers, thread.extended, thread.mask, thread.clear_tid,
    thread.robust_list, thread.robust_bytes, thread.rseq, thread.rseq_bytes, thread.rseq_signature,
    thread.alternate_stack, thread.pending, thread.affinity, thread.policy, thread.nice,
    thread.priority, thread.capabilities);
}
template <class Archive>
void fields(Archive& a, Watch& watch) {
  a(watch.descriptor, watch.events, watch.data);
}
template <class Archive>
void fields(Archive& a, OpenFile& file) {
  a(file.descriptor, file.close_on_exec, file.flags, file.position, file.kind, file.shares,
    file.file, file.inherited, file.object, file.owner, file.count, file.clock, file.timer_flags,
    file.times, file.mask, file.watches, file.terminal);
}
template <class Archive>
void fields(Archive& a, Object& object) {
  a(object.kind, object.inode, object.name, object.size, object.seals, object.contents_at,
    object.contents_bytes, object.has_packets, object.packets);
}
template <class Archive>
void fields(Archive& a, Timer& timer) {
  a(timer.id, timer.clock, timer.signal, timer.value, timer.notify, timer.thread, timer.times);
}
template <class Archive>
void fields(Archive& a, Record& r) {
  a(r.version, r.kernel, r.command, r.xfeatures, r.xsave_bytes, r.hardware, r.vdso);
  a(r.id, r.group, r.session, r.user, r.user_group, r.umask, r.personality, r.no_new_privileges,
    r.timer_slack, r.death_signal, r.dumpable, r.subreaper, r.huge_pages_off, r.directory,
    r.executable, r.limits, r.layout, r.auxiliary, r.dispositions, r.pending, r.interval_timers,
    r.timers, r.threads, r.mappings, r.files, r.objects);
  a(r.every_ms, r.keep, r.full_every, r.socket);
}

class Encoder {
 public:
  template <class... Values>
  void operator()(Values&... values) {
    (put(values), ...);
  }
  std::vector<std::byte> bytes;

 private:
  void put(std::uint64_t& number) {
    const auto* const at = reinterpret_cast<const std::byte*>(&number);
    bytes.insert(bytes.end(), at, at + sizeof number);
  }
  void put(std::byte& byte) { bytes.push_back(byte); }
  void put(char& letter) { bytes.push_back(static_cast<std::byte>(letter)); }
  template <class T>
  void put_all(T& values) {
    for (auto& value : values) put(value);
  }
  template <class T>
  void put_counted(T& values) {
    std::uint64_t count = values.size();
    put(count);
    put_all(values);
  }
  void put(std::string& text) { put_counted(text); }
  template <class T>
  void put(std::vector<T>& values) {
    put_counted(values);
  }
  template <class T, std::size_t N>
  void put(std::array<T, N>& values) {
    put_all(values);
  }
  template <class T>
  void put(T& value) {
    if constexpr (std::is_enum_v<T>) {
      auto number = static_cast<std::uint64_t>(value);
      put(number);
    } else {
      fields(*this, value);
    }
  }
};

class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> all) : rest(all) {}
  template <class... Values>
  void operator()(Values&... values) {
    (get(values), ...);
  }
  std::span<const std::byte> rest;
  bool good = true;

 private:
  void take(void* to, std::size_t length) {
    if (!good || rest.size() < length) {
      good = false;
      std::memset(to, 0, length);
      return;
    }
    std::memcpy(to, rest.data(), length);
    rest = rest.subspan(length);
  }
  void get(std::uint64_t& number) { take(&number, sizeof number); }
  void get(std::byte& byte) { take(&byte, 1); }
  void get(char& letter) { take(&letter, 1); }
  // Each element takes a byte or more, so that no count can ask for more memory than some times the
  // record's length.
  template <class T>
  void get_counted(T& values) {
    std::uint64_t count = 0;
    get(count);
    if (count > rest.size()) good = false;
    for (std::uint64_t i = 0; good && i < count; ++i) {
      values.emplace_back();
      get(values.back());
    }
  }
  void get(std::string& text) {
    std::uint64_t count = 0;
    get(count);
    if (count > rest.size()) good = false;
    if (!good) return;
    text.resize(count);
    take(text.data(), count);
  }
  template <class T>
  void get(std::vector<T>& values) {
    get_counted(values);
  }
  template <class T, std::size_t N>
  void get(std::array<T, N>& values) {
    for (T& value : values) get(value);
  }
  template <class T>
  void get(T& value) {
    if constexpr (std::is_enum_v<T>) {
      std::uint64_t number = 0;
      get(number);
      value = static_cast<T>(number);
    } else {
      fields(*this, value);
    }
  }
};

Error nonsense() {
  return Error{"the record of a process", EBADMSG, {}, "it makes no sense: use another image"};
}

bool is_signal(const std::vector<std::byte>& info) {
  constexpr std::size_t kSignalInfoBytes = 128;
  return info.size() == kSignalInfoBytes;
}

// What the rest of the code may take for granted.
bool makes_sense(const Record& record) {
  if (record.threads.empty()) return false;
  if (!std::all_of(record.pending.begin(), record.pending.end(), is_signal)) return false;
  for (const Thread& thread : record.threads) {
    constexpr std::size_t kMostAffinity = 8192;  // 65,536 processors
    if (!std::all_of(thread.pending.begin(), thread.pending.end(), is_signal)) return false;
    if (thread.affinity.size() > kMostAffinity) return false;
  }
  std::uint64_t last = 0;
  for (const Mapping& mapping : record.mappings) {
    if (mapping.start < last || mapping.end <= mapping.start || mapping.end > kMemoryBytes)
      return false;
    if (mapping.start % 4096 != 0 || mapping.end % 4096 != 0) return false;
    if (mapping.kind > MappingKind::vvar) return false;
    if (mapping.kind == MappingKind::shared_memory && mapping.object >= record.objects.size())
      return false;
    for (const Run& run : mapping.own)
      if (run.start < mapping.start || run.end > mapping.end || run.end <= run.start) return false;
    last = mapping.end;
  }
  for (std::size_t i = 0; i < record.files.size(); ++i) {
    const OpenFile& file = record.files[i];
    if (file.kind > FileKind::memory || file.shares > i || file.inherited > 2) return false;
    if (file.descriptor > 1 << 24) return false;
    if ((file.kind == FileKind::pipe || file.kind == FileKind::memory) &&
        file.object >= record.objects.size())
      return false;
  }
  for (const Object& object : record.objects) {
    std::uint64_t left = object.contents_bytes;
    for (const std::uint64_t length : object.packets) {
      if (length > left) return false;
      left -= length;
    }
    if (object.kind > ObjectKind::memfd || object.contents_at > kObjectsBytes ||
        object.contents_bytes > kObjectsBytes)
      return false;
  }
  return true;
}

}  // namespace

std::vector<std::byte> encode(const Record& record) {
  Encoder encoder;
  encoder(const_cast<Record&>(record));
  return std::move(encoder.bytes);
}

Result<Record> decode(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(std::uint64_t)) return nonsense();
  std::uint64_t version = 0;
  std::memcpy(&version, bytes.data(), sizeof version);
  if (version != kRecordVersion)
    return Error{"the record of a process", ENOTSUP, {}, "it is of another version of pagetrap"};
  Record record;
  Decoder decoder(bytes);
  decoder(record);
  if (!decoder.good || !decoder.rest.empty() || !makes_sense(record)) return nonsense();
  return record;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

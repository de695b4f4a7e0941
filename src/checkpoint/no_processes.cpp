// Where whole processes cannot be saved: see src/CMakeLists.txt.
#include <cerrno>

#include <pagetrap/checkpoint/process.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {
Error absent() {
  return Error{"a checkpoint of a process", ENOTSUP, {}, "it is for x86-64 only, so far"};
}
}  // namespace

struct ProcessSaver::State {};
struct RestartedProcess::State {};

ProcessSaver::ProcessSaver(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
ProcessSaver::ProcessSaver(ProcessSaver&& other) noexcept = default;
ProcessSaver& ProcessSaver::operator=(ProcessSaver&& other) noexcept = default;
ProcessSaver::~ProcessSaver() = default;
Result<ProcessSaver> ProcessSaver::attach(pid_t, const ProcessSaverOptions&) { return absent(); }
Result<ProcessStatistics> ProcessSaver::checkpoint(const SaveOptions&, std::span<const CutWord>) {
  return absent();
}
Result<std::uint32_t> ProcessSaver::read_word(std::uint64_t) const { return absent(); }
Result<Done> ProcessSaver::write_word(std::uint64_t, std::uint32_t) const { return absent(); }
const std::vector<std::string>& ProcessSaver::refusals() const noexcept {
  static const std::vector<std::string> none;
  return none;
}

RestartedProcess::RestartedProcess(std::unique_ptr<State> state) noexcept
    : state_(std::move(state)) {}
RestartedProcess::RestartedProcess(RestartedProcess&& other) noexcept = default;
RestartedProcess& RestartedProcess::operator=(RestartedProcess&& other) noexcept = default;
RestartedProcess::~RestartedProcess() = default;
Result<RestartedProcess> RestartedProcess::start(const std::string&, const RestartOptions&,
                                                 std::vector<std::string>&) {
  return absent();
}
pid_t RestartedProcess::id() const noexcept { return 0; }
pid_t RestartedProcess::id_inside() const noexcept { return 0; }
const ImageInfo& RestartedProcess::image() const noexcept {
  static const ImageInfo none;
  return none;
}
RestartMode RestartedProcess::mode() const noexcept { return RestartMode::automatic; }
std::chrono::milliseconds RestartedProcess::every() const noexcept { return {}; }
unsigned RestartedProcess::keep() const noexcept { return 0; }
unsigned RestartedProcess::full_every() const noexcept { return 0; }
const std::string& RestartedProcess::socket() const noexcept {
  static const std::string none;
  return none;
}
double RestartedProcess::first_instruction_us() const noexcept { return 0; }
const std::vector<std::string>& RestartedProcess::notices() const noexcept {
  static const std::vector<std::string> none;
  return none;
}
Result<Done> RestartedProcess::finish() { return absent(); }
int RestartedProcess::wait() { return 0; }
Result<ProcessInfo> inspect_process(const std::string&) { return absent(); }
Result<std::string> image_at(const std::string&, std::int64_t) { return absent(); }

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap

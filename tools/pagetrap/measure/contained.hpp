// Work done in a forked child, so that a crash or a hang there is an answer and not our end.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>

namespace pagetrap::tool {

/// Memory that this process and its children share. Zeroes at first. Throws std::system_error.
class SharedPage {
 public:
  explicit SharedPage(std::size_t size_bytes);
  ~SharedPage();
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  [[nodiscard]] void* data() const noexcept { return data_; }

 private:
  void* data_;
  std::size_t size_bytes_;
};

/// Runs `work(self)` in a child, which an alarm kills after `seconds`. Returns what went wrong, in
/// words, or an empty string. Exceptions of `work` go wrong too. No core is dumped.
/// Precondition: the caller has no other threads.
std::string run_in_child(void (*work)(void* self), void* self, unsigned seconds);

/// What a child found out.
template <class Answer>
struct Contained {
  Answer answer{};
  std::string failure;  // empty if the child lived to answer
};

/// Runs `work(answer)` in a child. What it had written to `answer` is kept also if it dies.
template <class Answer, class Work>
Contained<Answer> contained(unsigned seconds, Work work) {
  static_assert(std::is_trivially_copyable_v<Answer>, "it crosses to another process as bytes");
  struct Call {
    Work& work;
    Answer* answer;
  };
  const SharedPage shared(sizeof(Answer));
  Call call{work, new (shared.data()) Answer{}};
  Contained<Answer> result;
  result.failure = run_in_child(
      [](void* self) {
        auto& in_child = *static_cast<Call*>(self);
        in_child.work(*in_child.answer);
      },
      &call, seconds);
  result.answer = *call.answer;
  return result;
}

}  // namespace pagetrap::tool

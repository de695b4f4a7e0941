// Real: the function that one of ours stands in front of.
#pragma once

#include <dlfcn.h>

#include <atomic>

namespace pagetrap::preload {

template <class Function>
class Real;

/// The next definition of a function after ours, looked up at its first call.
template <class R, class... A>
class Real<R(A...)> {
 public:
  /// `version`: where there are several under one name. Literals.
  constexpr explicit Real(const char* name, const char* version = nullptr) noexcept
      : name_(name), version_(version) {}
  R operator()(A... arguments) { return find()(arguments...); }
  /// Null: it has not been looked up.
  [[nodiscard]] R (*known() const)(A...) { return found_.load(std::memory_order_relaxed); }
  [[nodiscard]] R (*find())(A...) {
    using Pointer = R (*)(A...);
    if (const auto known = found_.load(std::memory_order_relaxed)) return known;
    void* const symbol =
        version_ != nullptr ? ::dlvsym(RTLD_NEXT, name_, version_) : ::dlsym(RTLD_NEXT, name_);
    const auto found = reinterpret_cast<Pointer>(symbol);
    found_.store(found, std::memory_order_relaxed);
    return found;
  }

 private:
  const char* const name_;
  const char* const version_;
  std::atomic<R (*)(A...)> found_{nullptr};
};

/// With further arguments, which are one at most.
template <class R, class... A>
class Real<R(A..., ...)> {
 public:
  constexpr explicit Real(const char* name) noexcept : name_(name) {}
  template <class Last>
  R operator()(A... arguments, Last last) {
    using Pointer = R (*)(A..., ...);
    Pointer known = found_.load(std::memory_order_relaxed);
    if (known == nullptr) {
      known = reinterpret_cast<Pointer>(::dlsym(RTLD_NEXT, name_));
      found_.store(known, std::memory_order_relaxed);
    }
    return known(arguments..., last);
  }

 private:
  const char* const name_;
  std::atomic<R (*)(A..., ...)> found_{nullptr};
};

}  // namespace pagetrap::preload

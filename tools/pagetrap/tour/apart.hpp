// What a chapter does in a process of its own, since it has threads, forks, and memory at addresses
// that the next one needs.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

#include "../measure/contained.hpp"
#include "../measure/measured.hpp"
#include "../text/progress.hpp"

namespace pagetrap::tool {

/// What a child finds out, and why not.
template <class Figures>
struct Told {
  Figures figures{};
  FixedText<256> problem;
};

/// `work()`'s figures. Throws what went wrong.
template <class Figures, class Work>
Figures apart(const char* doing, Work work) {
  constexpr unsigned kPatience = 90;  // seconds
  Progress progress;
  progress.show(doing);
  const auto result = contained<Told<Figures>>(kPatience, [&](Told<Figures>& told) {
    try {
      told.figures = work();
    } catch (const std::exception& error) {
      told.problem.set(words_of(error));
    }
  });
  if (!result.failure.empty()) throw std::runtime_error(result.failure);
  if (!result.answer.problem.view().empty())
    throw std::runtime_error(std::string(result.answer.problem.view()));
  return result.answer.figures;
}

}  // namespace pagetrap::tool

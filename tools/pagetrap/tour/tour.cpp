// pagetrap tour: every chapter in turn.
#include <array>
#include <chrono>
#include <cstdio>
#include <string>

#include "../commands.hpp"
#include "../text/screen.hpp"
#include "chapter.hpp"

namespace pagetrap::tool {
namespace {

constexpr std::array<Chapter, 7> kChapters{{
    {"ground-floor", "The ground floor: six primitives", tell_ground_floor},
    {"compress", "Compressed memory: more than there is", tell_compress},
    {"checkpoint", "Checkpoints: saved while it runs", tell_checkpoint},
    {"restart", "Restart: programs that know nothing of it", tell_restart},
    {"store", "A store: objects that survive a crash", tell_store},
    {"guard", "Guards: overflows and uses after free", tell_guard},
    {"gc", "A collected heap: no barrier instructions", tell_gc},
}};

}  // namespace

std::vector<std::string> tour_chapters() {
  std::vector<std::string> names;
  names.reserve(kChapters.size());
  for (const Chapter& chapter : kChapters) names.emplace_back(chapter.name);
  return names;
}

int tour(const TourOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const TourPace pace{options.quick};
  std::printf("%s\n\n", styled("pagetrap " + version_text() + " tour", Style::bold).c_str());
  print_paragraph(
      "A program can use the memory hardware itself: take away its own right to a page, be told "
      "when the page is touched, put the contents right, and go on as if nothing had happened. "
      "Appel and Li showed in 1991 that garbage collectors, checkpoints, persistent stores and "
      "memory compression need the same six primitives for it. This is what they are like on this "
      "machine, today.");
  std::size_t failed = 0;
  for (std::size_t i = 0; i < kChapters.size(); ++i) {
    if (!options.chapter.empty() && options.chapter != kChapters[i].name) continue;
    print_heading(std::to_string(i + 1) + ". " + kChapters[i].title);
    if (!kChapters[i].tell(pace)) ++failed;
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  print_heading("The end");
  if (failed == 0) {
    print_paragraph("All that was shown worked. The tour took " +
                    duration_text(taken.count() * 1e9) +
                    ". Next: `pagetrap doctor` explains each choice made here; examples/ has the "
                    "programs; docs/commands.md the other commands.");
  } else {
    print_paragraph("Something did not work, see above. `pagetrap doctor` tells more.", 0, 0,
                    Style::bad);
  }
  return failed == 0 ? kOk : kFailed;
}

}  // namespace pagetrap::tool

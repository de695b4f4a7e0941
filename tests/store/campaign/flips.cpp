#include "store/campaign/flips.hpp"

#include <stdexcept>

#include "store/campaign/workload.hpp"
#include "store/disks.hpp"
#include "store/store_state.hpp"

namespace campaign {

using namespace pagetrap::store;
using pagetrap::describe;

namespace {

StoreOptions small() {
  StoreOptions options;
  options.log_bytes = std::size_t{128} << 10;
  options.reserve_bytes = std::size_t{32} << 20;
  return options;
}

struct Victim {
  Bytes medium;
  std::uint64_t steps = 0;
};

Store open(std::unique_ptr<Disk> disk) {
  auto state = StoreState::open(std::move(disk), small());
  if (!state) throw std::runtime_error(describe(state.error()));
  return StoreState::as_store(std::move(*state));
}

Victim make_victim(std::uint64_t seed, std::uint64_t steps, bool clean) {
  MemoryDisk fresh;
  if (failed(StoreState::format(fresh, small(), 24))) throw std::runtime_error("format");
  auto owned = std::make_unique<MemoryDisk>(fresh.contents());
  const MemoryDisk& disk = *owned;
  Store store = open(std::move(owned));
  World& world = *store.root<World>("world").value();
  for (std::uint64_t number = 1; number <= steps; ++number) {
    const auto position = step_in(store, world, seed, number);
    if (!position || !store.wait(*position)) throw std::runtime_error("a step failed");
  }
  if (clean) {
    if (!store.close()) throw std::runtime_error("close");
  } else {
    StoreState::of(store).abandon_file();
  }
  return {disk.contents(), steps};
}

// Bytes of worth are a small part of a file: half of the flips are among those that are not zero.
std::size_t choose_byte(const Bytes& medium, Random& random) {
  std::size_t at = random() % medium.size();
  if (random() % 2 == 0) return at;
  for (int i = 0; i < 1000 && medium[at] == std::byte{0}; ++i) at = random() % medium.size();
  return at;
}

}  // namespace

FlipResult flip_bytes(const FlipOptions& options) {
  constexpr std::uint64_t kOfOne = 100;
  FlipResult result;
  Random random(options.seed);
  Model model(options.seed);
  while (result.flips < options.flips) {
    const bool clean = random() % 2 == 0;
    const Victim victim = make_victim(options.seed, random() % 400, clean);
    for (std::uint64_t i = 0; i < kOfOne && result.flips < options.flips; ++i) {
      Bytes damaged = victim.medium;
      const std::size_t at = choose_byte(damaged, random);
      damaged[at] ^= static_cast<std::byte>(random() % 255 + 1);
      result.flips += 1;
      auto state = StoreState::open(std::make_unique<MemoryDisk>(std::move(damaged)), small());
      if (!state || failed((*state)->verify_all())) {
        result.refused += 1;
        continue;
      }
      Store store = StoreState::as_store(std::move(*state));
      const std::string wrong = check(store, model, victim.steps, victim.steps);
      StoreState::of(store).abandon_file();
      if (wrong.empty()) {
        result.harmless += 1;
        continue;
      }
      result.silent += 1;
      if (result.first_silent.empty())
        result.first_silent =
            "byte " + std::to_string(at) + (clean ? ", clean: " : ", crashed: ") + wrong;
    }
  }
  return result;
}

}  // namespace campaign

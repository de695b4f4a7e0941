// What the campaigns do to a store: steps that follow from a seed and a number, on ordinary
// containers, and what the store must hold after each.
#pragma once

#include <cstdint>
#include <map>
#include <memory_resource>
#include <string>
#include <unordered_map>
#include <vector>

#include <pagetrap/store/store.hpp>

namespace campaign {

/// splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t operator()() noexcept {
    std::uint64_t mixed = (state_ += 0x9e37'79b9'7f4a'7c15);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58'476d'1ce4'e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d0'49bb'1331'11eb;
    return mixed ^ (mixed >> 31);
  }

 private:
  std::uint64_t state_;
};

/// Lives in a store, and beside it as the model.
struct World {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit World(allocator_type allocator) : texts(allocator), counts(allocator), list(allocator) {}
  std::uint64_t step = 0;
  std::pmr::map<std::uint32_t, std::pmr::string> texts;
  std::pmr::unordered_map<std::uint64_t, std::uint64_t> counts;
  std::pmr::vector<std::uint32_t> list;
};

/// Step `number` of the run `seed`.
void take_step(World& world, std::uint64_t seed, std::uint64_t number);
/// Changes that are to be undone.
void make_a_mess(World& world, Random& random);
/// Of all that is in it.
std::uint64_t digest(const World& world);

/// The digests after each number of steps, made as they are asked for.
class Model {
 public:
  explicit Model(std::uint64_t seed) : seed_(seed), world_(std::pmr::new_delete_resource()) {
    digests_.push_back(digest(world_));
  }
  std::uint64_t after(std::uint64_t steps);

 private:
  std::uint64_t seed_;
  World world_;
  std::vector<std::uint64_t> digests_;
};

/// Takes step `number` in a transaction; before it, sometimes, one that fails.
pagetrap::Result<pagetrap::store::Position> step_in(pagetrap::store::Store& store, World& world,
                                                    std::uint64_t seed, std::uint64_t number);

/// "" if `store` has exactly a number of steps that is at least `acknowledged` and at most `most`;
/// else what is wrong.
std::string check(const pagetrap::store::Store& store, Model& model, std::uint64_t acknowledged,
                  std::uint64_t most);

}  // namespace campaign

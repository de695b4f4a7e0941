#include "store/campaign/workload.hpp"

#include <algorithm>
#include <stdexcept>
#include <string_view>

namespace campaign {

using pagetrap::Result;
using pagetrap::store::Position;
using pagetrap::store::Store;

namespace {

constexpr std::uint32_t kTexts = 600;
constexpr std::uint64_t kCounts = 5000;

std::pmr::string text(std::uint64_t word, std::pmr::polymorphic_allocator<> allocator) {
  const std::size_t length = word % 7 == 0 ? word / 7 % 3000 : word / 7 % 60;
  return std::pmr::string(length, static_cast<char>('a' + word % 26), allocator);
}

void change(World& world, Random& random) {
  const std::uint64_t what = random() % 16;
  const auto key = static_cast<std::uint32_t>(random() % kTexts);
  if (what < 5) {
    world.texts.insert_or_assign(key, text(random(), world.texts.get_allocator()));
  } else if (what < 7) {
    world.texts.erase(key);
  } else if (what < 12) {
    world.counts[random() % kCounts] += random() % 9;
  } else if (what < 13) {
    world.counts.erase(random() % kCounts);
  } else if (what < 15) {
    for (std::uint64_t i = random() % 40; i > 0; --i)
      world.list.push_back(static_cast<std::uint32_t>(random()));
  } else if (!world.list.empty()) {
    world.list.resize(world.list.size() / 2);
    world.list.shrink_to_fit();
  }
}

}  // namespace

void take_step(World& world, std::uint64_t seed, std::uint64_t number) {
  Random random(seed * 0x1'0000'01b3 + number);
  for (std::uint64_t i = random() % 4 + 1; i > 0; --i) change(world, random);
  // Now and then much: pages by the dozen, and a lap of a small log.
  if (number % 61 == 0)
    for (std::uint32_t i = 0; i < kTexts; i += 9)
      world.texts.insert_or_assign(i, text(random(), world.texts.get_allocator()));
  world.step = number;
}

void make_a_mess(World& world, Random& random) {
  for (std::uint64_t i = random() % 6; i > 0; --i) change(world, random);
  world.step += 1000;
}

namespace {

class Digest {
 public:
  void add(std::uint64_t word) { sum_ = Random(sum_ ^ word)(); }
  void add(std::string_view words) {
    add(words.size());
    for (const char letter : words)
      sum_ = (sum_ ^ static_cast<unsigned char>(letter)) * 0x100'0000'01b3;
  }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }

 private:
  std::uint64_t sum_ = 0x1991;
};

}  // namespace

std::uint64_t digest(const World& world) {
  Digest digest;
  digest.add(world.step);
  for (const auto& [key, words] : world.texts) {
    digest.add(key);
    digest.add(words);
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> counts(world.counts.begin(),
                                                              world.counts.end());
  std::sort(counts.begin(), counts.end());
  for (const auto& [key, count] : counts) {
    digest.add(key);
    digest.add(count);
  }
  digest.add(world.list.size());
  for (const std::uint32_t number : world.list) digest.add(number);
  return digest.sum();
}

std::uint64_t Model::after(std::uint64_t steps) {
  while (digests_.size() <= steps) {
    take_step(world_, seed_, digests_.size());
    digests_.push_back(digest(world_));
  }
  return digests_[steps];
}

Result<Position> step_in(Store& store, World& world, std::uint64_t seed, std::uint64_t number) {
  Random random(seed ^ number << 20);
  if (random() % 8 == 0) {
    try {
      static_cast<void>(store.commit_async([&] {
        make_a_mess(world, random);
        throw std::runtime_error("to be undone");
      }));
    } catch (const std::runtime_error&) {
    }
  }
  return store.commit_async([&] { take_step(world, seed, number); });
}

std::string check(const Store& store, Model& model, std::uint64_t acknowledged,
                  std::uint64_t most) {
  const auto world = store.find<World>("world");
  if (!world) return describe(world.error());
  if (*world == nullptr)
    return acknowledged == 0
               ? ""
               : "nothing is there, step " + std::to_string(acknowledged) + " was acknowledged";
  const std::uint64_t step = (*world)->step;
  if (step < acknowledged)
    return "step " + std::to_string(step) + " is there, " + std::to_string(acknowledged) +
           " was acknowledged";
  if (step > most) return "step " + std::to_string(step) + " was never taken";
  if (digest(**world) != model.after(step))
    return "what is there is not what step " + std::to_string(step) + " leaves";
  return "";
}

}  // namespace campaign

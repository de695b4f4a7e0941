// Random transactions on ordinary std::pmr containers, aborts among them, beside the same on the
// heap. PAGETRAP_STORE_STEPS sets how many; tests/store/run makes a million.
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/campaign/workload.hpp"
#include "store/support.hpp"

namespace pagetrap::store {
namespace {

using Text = std::pmr::string;

struct Containers {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit Containers(allocator_type a)
      : map(a), table(a), list(a), deque(a), vector(a), set(a), text(a), nested(a) {}
  std::pmr::map<int, Text> map;
  std::pmr::unordered_map<Text, int> table;
  std::pmr::list<Text> list;
  std::pmr::deque<std::uint64_t> deque;
  std::pmr::vector<Text> vector;
  std::pmr::set<int> set;
  Text text;
  std::pmr::map<int, std::pmr::vector<std::pmr::list<int>>> nested;
  bool operator==(const Containers&) const = default;
};

std::string words(campaign::Random& random) {
  return std::string(random() % 11 == 0 ? random() % 700 : random() % 30,
                     static_cast<char>('a' + random() % 26));
}

void change(Containers& all, campaign::Random& random) {
  const int key = static_cast<int>(random() % 300);
  switch (random() % 20) {
    case 0:
    case 1:
    case 2:
      all.map[key] = words(random);
      break;
    case 3:
      all.map.erase(key);
      break;
    case 4:
    case 5:
      all.table[Text(words(random))] += key;
      break;
    case 6:
      if (!all.table.empty()) all.table.erase(all.table.begin()->first);
      if (all.table.size() > 400) all.table.clear();
      break;
    case 7:
      all.list.emplace_front(words(random));
      break;
    case 8:
      if (all.list.size() > 50) all.list.resize(10);
      all.list.reverse();
      break;
    case 9:
      all.list.sort();
      break;
    case 10:
    case 11:
      all.deque.push_back(random());
      break;
    case 12:
      if (!all.deque.empty()) all.deque.pop_front();
      break;
    case 13:
      all.vector.emplace_back(words(random));
      if (all.vector.size() > 200) all.vector.erase(all.vector.begin(), all.vector.begin() + 150);
      break;
    case 14:
      if (!all.vector.empty()) all.vector[random() % all.vector.size()] = words(random);
      break;
    case 15:
      all.set.insert(key);
      break;
    case 16:
      all.set.erase(key);
      break;
    case 17:
      all.text += words(random);
      if (all.text.size() > 3000) all.text.clear();
      break;
    case 18:
      all.nested[key % 20].emplace_back().push_back(key);
      break;
    default:
      all.nested.erase(key % 20);
  }
}

class Model : public ::testing::TestWithParam<Detect> {};

TEST_P(Model, RandomTransactionsWithAborts) {
  const char* const wanted = std::getenv("PAGETRAP_STORE_STEPS");
  const std::uint64_t steps = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 4000;
  Folder folder;
  StoreOptions options = small_store(GetParam());
  options.durability = Durability::none;
  if (GetParam() == Detect::scan) options.persistence = Persistence::cache_lines;
  Containers model(std::pmr::new_delete_resource());
  std::uint64_t step = 0;
  std::uint64_t aborts = 0;
  while (step < steps) {
    OPEN_OR_SKIP(store, folder.file("model.store"), options);
    auto& there = *store.root<Containers>("all").value();
    ASSERT_TRUE(there == model) << "found again after step " << step;
    for (const std::uint64_t end = std::min(steps, step + steps / 4 + 1); step < end; ++step) {
      const std::uint64_t seed = 1991 * step + static_cast<std::uint64_t>(GetParam());
      if (seed % 7 == 0) {
        campaign::Random random(~seed);
        EXPECT_THROW(static_cast<void>(store.transaction([&] {
                       for (int i = 0; i < 5; ++i) change(there, random);
                       throw std::runtime_error("undone");
                     })),
                     std::runtime_error);
        ++aborts;
      }
      campaign::Random random(seed);
      campaign::Random same(seed);
      ASSERT_TRUE(store.transaction([&] {
        for (int i = 0; i < 3; ++i) change(there, random);
      }));
      for (int i = 0; i < 3; ++i) change(model, same);
      const bool look = step % 97 == 0;
      ASSERT_TRUE(!look || there == model) << "step " << step;
    }
    ASSERT_TRUE(there == model) << "step " << step;
  }
  EXPECT_GT(aborts, 0U);
}

INSTANTIATE_TEST_SUITE_P(Detectors, Model, ::testing::ValuesIn(kDetectors), detect_name);

}  // namespace
}  // namespace pagetrap::store

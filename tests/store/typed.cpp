#include "store/typed.hpp"

#include <algorithm>
#include <stdexcept>

#include <pagetrap/store/inspect.hpp>

namespace pagetrap::store::typed {
namespace {

std::string words(campaign::Random& random) {
  return std::string(random() % 11 == 0 ? random() % 700 : random() % 30,
                     static_cast<char>('a' + random() % 26));
}

void add_person(World& world, campaign::Random& random) {
  Person& person = world.people.emplace_back();
  person.age = static_cast<std::uint32_t>(random());
  person.next = world.newest;
  if (world.people.size() > 1) person.parents[0] = &world.people.front();
  world.newest = &person;
}

void change(World& all, campaign::Random& random) {
  const int key = static_cast<int>(random() % 300);
  switch (random() % 24) {
    case 0:
    case 1:
      all.map[key] = words(random);
      break;
    case 2:
      all.map.erase(key);
      break;
    case 3:
      all.table[random() % 300] = words(random);
      break;
    case 4:
      all.table.erase(random() % 300);
      break;
    case 5:
    case 6:
      all.texts[Text(words(random))] += key;
      break;
    case 7:
      if (all.texts.size() > 300) all.texts.clear();
      break;
    case 8:
      all.list.emplace_front(words(random));
      break;
    case 9:
      if (all.list.size() > 50) all.list.resize(10);
      all.list.reverse();
      break;
    case 10:
      all.forward.push_front(key);
      if (key % 50 == 0) all.forward.clear();
      break;
    case 11:
    case 12:
      all.deque.push_back(random());
      break;
    case 13:
      if (!all.deque.empty()) all.deque.pop_front();
      break;
    case 14:
      all.vector.emplace_back(words(random));
      if (all.vector.size() > 200) all.vector.erase(all.vector.begin(), all.vector.begin() + 150);
      break;
    case 15:
      all.bits.push_back(key % 3 == 0);
      if (all.bits.size() > 2000) all.bits.clear();
      break;
    case 16:
      all.set.insert(key);
      break;
    case 17:
      all.set.erase(key);
      break;
    case 18:
      all.text += words(random);
      // Asked for, and not written: what lies there is what was there before.
      if (all.text.size() > 3000) {
        all.text.clear();
        all.text.shrink_to_fit();
        all.text.reserve(random() % 9000);
      }
      break;
    case 19:
      all.nested[key % 20].emplace_back().push_back(key);
      break;
    case 20:
      all.nested.erase(key % 20);
      break;
    case 21:
      all.several.emplace(key % 5, "a longer text, which has a block of its own");
      if (all.several.size() > 40) all.several.clear();
      break;
    case 22:
      add_person(all, random);
      break;
    default:
      if (all.people.size() > 60) {
        all.newest = nullptr;
        all.people.clear();
      }
      all.letter.emplace(all.text.data(), key);
      break;
  }
}

std::size_t place_in(const List<Person>& people, const Person* person) {
  std::size_t at = 0;
  for (const Person& other : people) {
    if (&other == person) return at;
    ++at;
  }
  return ~std::size_t{0};  // null, or lost
}

}  // namespace

bool World::operator==(const World& other) const {
  const auto same_person = [&](const Person& a, const Person& b) {
    return a.age == b.age && place_in(people, a.next) == place_in(other.people, b.next) &&
           (a.next == nullptr) == (b.next == nullptr) &&
           place_in(people, a.parents[0]) == place_in(other.people, b.parents[0]) &&
           a.parents[1] == b.parents[1];
  };
  return step == other.step && map == other.map && table == other.table && texts == other.texts &&
         list == other.list && forward == other.forward && deque == other.deque &&
         vector == other.vector && bits == other.bits && set == other.set && text == other.text &&
         nested == other.nested && several == other.several &&
         std::equal(people.begin(), people.end(), other.people.begin(), other.people.end(),
                    same_person) &&
         place_in(people, newest) == place_in(other.people, other.newest) &&
         letter.has_value() == other.letter.has_value() &&
         (!letter || letter->second == other.letter->second);
}

void take_step(World& world, std::uint64_t seed, std::uint64_t number) {
  campaign::Random random(seed * 0x1'0000'01b3 + number);
  for (std::uint64_t i = random() % 5 + 1; i > 0; --i) change(world, random);
  world.step = number;
}

Occupied::Occupied(std::uint64_t base)
    : address_(::mmap(reinterpret_cast<void*>(base), kPageBytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)) {
  if (address_ == MAP_FAILED) throw std::runtime_error("the home of a store is in use already");
}

std::uint64_t home_of(const std::string& path) { return StoreFile::open(path).value().info().base; }

}  // namespace pagetrap::store::typed

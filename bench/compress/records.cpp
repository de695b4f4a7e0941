#include "compress/records.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include <pagetrap/core/units.hpp>

#include "harness/clock.hpp"

namespace pagetrap::bench {

namespace {

/// splitmix64
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

constexpr std::array<const char*, 16> kWords{
    "account=", "active  ", "pending ", "closed  ", "region=0", "currency", "customer", "invoice ",
    "payment ", "archived", "returned", "priority", "standard", "express ", "domestic", "abroad  "};

std::size_t records_in_page() { return page_size() / sizeof(Record); }

}  // namespace

void Walk::build() {
  std::uint64_t random = 7;
  for (std::uint64_t i = 0; i < count_; ++i) {
    Record& record = records_[i];
    record.number = i;
    record.writes = 0;
    for (std::size_t word = 0; word < 3; ++word)
      std::memcpy(record.text + 8 * word, kWords[next_random(random) % kWords.size()], 8);
    // Keys and sums: digits that nothing predicts.
    for (std::size_t half = 0; half < 24; half += 8) {
      const std::uint64_t bits = next_random(random);
      for (std::size_t digit = 0; digit < 8; ++digit)
        record.text[24 + half + digit] = "0123456789abcdef"[bits >> (4 * digit) & 15];
    }
  }
}

void Walk::step() {
  if (order_ == Order::sequential) {
    const std::uint64_t first = at_ * records_in_page();
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < records_in_page(); ++i) sum += records_[first + i].number - first;
    wrong_ |= sum != records_in_page() * (records_in_page() - 1) / 2;
    at_ = (at_ + 1) % (count_ / records_in_page());
    return;
  }
  const std::uint64_t random = next_random(random_);
  std::uint64_t index = random % count_;
  if (order_ == Order::zipf) {
    at_ = (at_ + 1) % draws_.size();
    index = draws_[at_] * records_in_page() + random % records_in_page();
  }
  Record& record = records_[index];
  wrong_ |= record.number != index;
  if ((random >> 40) % 100 < writes_percent_) ++record.writes;
}

double Walk::run(std::size_t operations) {
  const double elapsed = time_ns([&] {
    for (std::size_t i = 0; i < operations; ++i) step();
  });
  if (wrong_) throw std::runtime_error("a record has not the contents that were written");
  return elapsed / static_cast<double>(operations);
}

double Walk::p999(std::size_t operations) {
  std::vector<float> durations(operations);
  double last = now_ns();
  for (float& duration : durations) {
    step();
    const double now = now_ns();
    duration = static_cast<float>(now - last);
    last = now;
  }
  if (wrong_) throw std::runtime_error("a record has not the contents that were written");
  const auto place = durations.end() - static_cast<std::ptrdiff_t>(operations / 1000 + 1);
  std::nth_element(durations.begin(), place, durations.end());
  return *place;
}

std::vector<std::uint32_t> draw_zipf(std::size_t pages, std::size_t count) {
  std::vector<double> until(pages);
  double sum = 0;
  for (std::size_t i = 0; i < pages; ++i)
    until[i] = sum += std::pow(static_cast<double>(i + 1), -0.99);
  std::vector<std::uint32_t> place(pages);
  std::iota(place.begin(), place.end(), 0U);
  std::mt19937_64 random(11);
  std::shuffle(place.begin(), place.end(), random);
  std::uniform_real_distribution<double> anywhere(0, sum);
  std::vector<std::uint32_t> draws(count);
  for (std::uint32_t& draw : draws) {
    const auto rank = std::lower_bound(until.begin(), until.end() - 1, anywhere(random));
    draw = place[static_cast<std::size_t>(rank - until.begin())];
  }
  return draws;
}

}  // namespace pagetrap::bench

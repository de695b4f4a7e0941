// An inverted index in standard containers: for each word where it stands. It is made in any
// std::pmr::memory_resource, an arena's or the heap's, and knows nothing of checkpoints.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "text_corpus.hpp"

namespace example {

inline constexpr std::size_t kIndexers = 2;  // threads
inline constexpr std::size_t kShards = 256;  // arbitrary: two threads seldom meet in one

struct Posting {
  std::uint32_t document;
  std::uint32_t position;
  friend auto operator<=>(const Posting&, const Posting&) = default;
};

/// The postings of one word in some consecutive documents, in order.
struct Leaf {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit Leaf(allocator_type allocator) : postings(allocator) {}
  std::uint32_t epoch = 0;  // for the twin that copies on write: text_twins.hpp
  std::pmr::vector<Posting> postings;
};

inline constexpr std::uint32_t kLeafDocuments = 256;
using Leaves = std::pmr::map<std::uint32_t, Leaf>;  // by document / kLeafDocuments

struct WordHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view word) const { return hash_of(word); }
};
using Shard = std::pmr::unordered_map<std::pmr::string, Leaves, WordHash, std::equal_to<>>;

/// One change: document `document` is from now on in its version `version`. Versions differ in the
/// words that they leave out; version 0 has none at all.
struct Update {
  std::uint32_t document = 0;
  std::uint32_t version = 0;
};

/// All of the index that must survive. Locks are not among it.
struct TextIndex {
  TextIndex(std::pmr::memory_resource* memory, std::size_t documents, std::uint64_t fingerprint)
      : shards(kShards, memory), versions(documents, 0, memory), corpus(fingerprint) {}
  std::pmr::vector<Shard> shards;
  std::pmr::vector<std::uint32_t> versions;        // of each document; each belongs to one thread
  std::uint64_t corpus;                            // its fingerprint
  std::array<std::uint64_t, kIndexers> applied{};  // updates so far, by thread
};

/// Lets updates through, or none: while it is closed no update is half made.
class Gate {
 public:
  void enter() {
    std::unique_lock lock(lock_);
    changed_.wait(lock, [this] { return !closed_; });
    ++inside_;
  }
  void leave() {
    const std::lock_guard lock(lock_);
    if (--inside_ == 0 && closed_) changed_.notify_all();
  }
  void close() {
    std::unique_lock lock(lock_);
    closed_ = true;
    changed_.wait(lock, [this] { return inside_ == 0; });
  }
  void open() {
    const std::lock_guard lock(lock_);
    closed_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  unsigned inside_ = 0;
  bool closed_ = false;
};

struct IndexLocks {
  Gate gate;
  std::array<std::mutex, kShards> shards;
};

/// What the twin that copies on write puts here is called before a leaf is changed. An arena needs
/// nothing of the kind.
struct NoBarrier {
  void before_write(std::size_t /*shard*/, const std::pmr::string& /*word*/,
                    std::uint32_t /*number*/, Leaf& /*leaf*/) {}
};

/// Makes updates; one for each thread.
template <class Barrier>
class Updater {
 public:
  Updater(TextIndex& index, IndexLocks& locks, const Corpus& corpus, Barrier& barrier)
      : index_(index), locks_(locks), corpus_(corpus), barrier_(barrier) {}

  /// As update number index.applied[thread] + 1 of `thread`. In one piece, as far as cuts go.
  void apply(std::size_t thread, const Update& update) {
    sort_words(corpus_.documents()[update.document]);
    locks_.gate.enter();
    std::uint32_t& version = index_.versions[update.document];
    for (std::size_t begin = 0; begin < words_.size();) {
      std::size_t end = begin;
      while (end < words_.size() && words_[end].word == words_[begin].word) ++end;
      const bool had = has_word(version, words_[begin].hash);
      const bool has = has_word(update.version, words_[begin].hash);
      if (had != has) change(update.document, begin, end, has);
      begin = end;
    }
    version = update.version;
    ++index_.applied[thread];
    locks_.gate.leave();
  }

 private:
  struct Occurrence {
    std::uint64_t hash;
    std::string_view word;
    std::uint32_t position;
  };

  static bool has_word(std::uint32_t version, std::uint64_t hash) {
    return version != 0 && ((hash >> 20) + version) % 8 != 0;
  }

  void sort_words(std::string_view text) {
    words_.clear();
    for_each_word(text, [&](std::string_view word, std::uint32_t position) {
      words_.push_back({hash_of(word), word, position});
    });
    std::sort(words_.begin(), words_.end(), [](const Occurrence& a, const Occurrence& b) {
      return std::tie(a.hash, a.word, a.position) < std::tie(b.hash, b.word, b.position);
    });
  }

  /// The document gets, or loses, the occurrences [begin, end), all of one word.
  void change(std::uint32_t document, std::size_t begin, std::size_t end, bool insert) {
    const std::size_t number = words_[begin].hash % kShards;
    const std::lock_guard lock(locks_.shards[number]);
    Shard& shard = index_.shards[number];
    auto word = shard.find(words_[begin].word);
    if (word == shard.end()) {
      const auto memory = shard.get_allocator().resource();
      word = shard.try_emplace(std::pmr::string(words_[begin].word, memory)).first;
    }
    Leaf& leaf = word->second.try_emplace(document / kLeafDocuments).first->second;
    barrier_.before_write(number, word->first, document / kLeafDocuments, leaf);
    auto& postings = leaf.postings;
    const auto first = std::lower_bound(postings.begin(), postings.end(), Posting{document, 0});
    if (!insert) {
      postings.erase(first, first + static_cast<std::ptrdiff_t>(end - begin));
      return;
    }
    auto place = postings.insert(first, end - begin, Posting{document, 0});
    for (std::size_t i = begin; i < end; ++i) place++->position = words_[i].position;
  }

  TextIndex& index_;
  IndexLocks& locks_;
  const Corpus& corpus_;
  Barrier& barrier_;
  std::vector<Occurrence> words_;
};

/// How often `word` stands in the indexed text.
inline std::uint64_t occurrences(const TextIndex& index, std::string_view word) {
  const Shard& shard = index.shards[hash_of(word) % kShards];
  const auto found = shard.find(word);
  std::uint64_t sum = 0;
  if (found != shard.end())
    for (const auto& [number, leaf] : found->second) sum += leaf.postings.size();
  return sum;
}

struct Comparison {
  std::uint64_t words = 0;
  std::uint64_t postings = 0;
  std::uint64_t differences = 0;  // words that only one has, or that have other postings
};

/// Every word and every posting.
inline Comparison compare(const TextIndex& a, const TextIndex& b) {
  Comparison result;
  if (a.versions != b.versions || a.applied != b.applied) ++result.differences;
  for (std::size_t i = 0; i < kShards; ++i) {
    std::size_t common = 0;
    for (const auto& [word, leaves] : a.shards[i]) {
      ++result.words;
      const auto other = b.shards[i].find(word);
      if (other == b.shards[i].end()) {
        ++result.differences;
        continue;
      }
      ++common;
      for (const auto& [number, leaf] : leaves) result.postings += leaf.postings.size();
      const bool same =
          std::equal(leaves.begin(), leaves.end(), other->second.begin(), other->second.end(),
                     [](const auto& x, const auto& y) {
                       return x.first == y.first && x.second.postings == y.second.postings;
                     });
      if (!same) ++result.differences;
    }
    result.differences += b.shards[i].size() - common;
  }
  return result;
}

}  // namespace example

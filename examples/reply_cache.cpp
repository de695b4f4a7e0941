// A small server's inside: requests are parsed, and answered from a cache of replies. It is right
// as it stands. `--bug` puts in one of three mistakes, as they are made:
//
//   overflow   a name is decoded into a block without room for its terminating zero
//   stale      an entry is evicted, and the pointer to the last one that was used still points to
//   it twice      a reply that is too long for the cache is freed by the cache, and by its caller
//
// Under the C library's malloc nothing happens, or something elsewhere. `pagetrap run --guard`
// stops it where the mistake is.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

enum class Bug { none, overflow, stale, twice };
Bug bug = Bug::none;

char* copy_of(const char* words) {
  auto* const copy = static_cast<char*>(std::malloc(std::strlen(words) + 1));
  std::strcpy(copy, words);
  return copy;
}

// --- the parser --------------------------------------------------------------------------------

/// "GET /a%20b" -> "/a b".
char* name_in(const char* request) {
  const char* from = request + std::strlen("GET ");
  std::size_t length = 0;
  for (const char* at = from; *at != '\0'; at += *at == '%' ? 3 : 1) ++length;
  const std::size_t zero = bug == Bug::overflow ? 0 : 1;
  auto* const name = static_cast<char*>(std::malloc(length + zero));
  for (std::size_t i = 0; i < length; ++i) {
    if (*from == '%') {
      const char digits[] = {from[1], from[2], '\0'};
      name[i] = static_cast<char>(std::strtol(digits, nullptr, 16));
      from += 3;
    } else {
      name[i] = *from++;
    }
  }
  name[length] = '\0';
  return name;
}

// --- the cache ---------------------------------------------------------------------------------

struct Entry {
  Entry* next = nullptr;  // in its chain
  Entry* newer = nullptr;
  char* name = nullptr;
  char* reply = nullptr;
};

class Cache {
 public:
  ~Cache() {
    while (oldest_ != nullptr) evict_oldest();
  }
  const char* find(const char* name) {
    if (last_ != nullptr && std::strcmp(last_->name, name) == 0) return last_->reply;
    for (Entry* entry = chain(name); entry != nullptr; entry = entry->next)
      if (std::strcmp(entry->name, name) == 0) return (last_ = entry)->reply;
    return nullptr;
  }
  /// Takes both. False: the reply is not kept, and is the caller's again.
  bool keep(char* name, char* reply) {
    if (std::strlen(reply) > kLongest) {
      if (bug == Bug::twice) std::free(reply);
      return false;
    }
    if (count_ == kMost) evict_oldest();
    auto* const entry = new Entry{chain(name), nullptr, name, reply};
    chain(name) = entry;
    (newest_ != nullptr ? newest_->newer : oldest_) = entry;
    newest_ = entry;
    ++count_;
    return true;
  }

 private:
  static constexpr std::size_t kChains = 64;
  static constexpr std::size_t kMost = 100;
  static constexpr std::size_t kLongest = 200;

  Entry*& chain(const char* name) {
    std::size_t hash = 5381;
    for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
    return chains_[hash % kChains];
  }
  void evict_oldest() {
    Entry* const entry = oldest_;
    oldest_ = entry->newer;
    if (oldest_ == nullptr) newest_ = nullptr;
    Entry** at = &chain(entry->name);
    while (*at != entry) at = &(*at)->next;
    *at = entry->next;
    if (last_ == entry && bug != Bug::stale) last_ = nullptr;
    std::free(entry->name);
    std::free(entry->reply);
    delete entry;
    --count_;
  }

  Entry* chains_[kChains] = {};
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  Entry* last_ = nullptr;  // many requests come twice
  std::size_t count_ = 0;
};

// --- the server --------------------------------------------------------------------------------

std::string reply_to(const std::string& name) {
  unsigned sum = 0;
  for (const char c : name) sum = sum * 31 + static_cast<unsigned char>(c);
  return "200 " + name + std::string(sum % 251, static_cast<char>('a' + sum % 26));
}

/// The last replies that were too long for the cache.
class LongReplies {
 public:
  ~LongReplies() {
    for (char* const reply : last_) std::free(reply);
  }
  void add(const char* reply) {
    char*& place = last_[count_++ % kMost];
    std::free(place);
    place = copy_of(reply);
  }
  [[nodiscard]] unsigned long wrong() const {
    unsigned long wrong = 0;
    for (const char* const reply : last_)
      if (reply != nullptr && std::strncmp(reply, "200 /part ", 10) != 0) ++wrong;
    return wrong;
  }

 private:
  static constexpr std::size_t kMost = 8;
  char* last_[kMost] = {};
  std::size_t count_ = 0;
};

/// The reply is as it must be.
bool serve(Cache& cache, LongReplies& long_replies, const std::string& request,
           const std::string& expected) {
  char* const name = name_in(request.c_str());
  if (const char* const known = cache.find(name)) {
    const bool right = expected == known;
    std::free(name);
    return right;
  }
  char* const reply = copy_of(expected.c_str());
  char* const kept_name = copy_of(name);
  const bool kept = cache.keep(kept_name, reply);
  const bool right = kept ? expected == cache.find(name) : true;
  if (!kept) {
    std::free(kept_name);
    long_replies.add(expected.c_str());
    std::free(reply);
  }
  std::free(name);
  return right;
}

int usage() {
  std::fputs("usage: reply_cache [--requests N] [--bug overflow|stale|twice]\n", stderr);
  return 2;
}

}  // namespace

int main(int count, char** words) {
  unsigned long requests = 20'000;
  for (int i = 1; i < count; ++i) {
    const std::string option = words[i];
    const std::string value = i + 1 < count ? words[++i] : "";
    if (option == "--requests" && std::atol(value.c_str()) > 0) {
      requests = std::strtoul(value.c_str(), nullptr, 10);
    } else if (option == "--bug" && value == "overflow") {
      bug = Bug::overflow;
    } else if (option == "--bug" && value == "stale") {
      bug = Bug::stale;
    } else if (option == "--bug" && value == "twice") {
      bug = Bug::twice;
    } else {
      return usage();
    }
  }
  unsigned long wrong = 0;
  {
    Cache cache;
    LongReplies long_replies;
    unsigned random = 1;
    for (unsigned long i = 0; i < requests; ++i) {
      random = random * 1664525 + 1013904223;
      const std::string number = std::to_string(1000 + (random >> 24));
      const std::string expected = reply_to("/part " + number);
      wrong += serve(cache, long_replies, "GET /part%20" + number, expected) ? 0 : 1;
    }
    wrong += long_replies.wrong();
  }
  std::printf("%lu requests answered, %lu wrong\n", requests, wrong);
  return wrong == 0 ? 0 : 1;
}

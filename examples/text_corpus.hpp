// The text that text_index works on: readable files of this machine, cut into documents of about
// 4 KiB. The same files give the same documents in every process.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace example {

/// FNV-1a. Not std::hash, which may differ between two builds of a program.
inline std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash ^ hash >> 32;
}

class Corpus {
 public:
  /// Regular files below `roots`, in the order of their names, until there are `limit` bytes.
  /// Files with zero bytes in front are no text and left out. What is missing is made up.
  static Corpus read(const std::vector<std::string>& roots, std::size_t limit) {
    Corpus corpus;
    corpus.text_.reserve(limit);
    for (const std::string& root : roots) {
      for (const std::string& path : files_below(root)) {
        if (corpus.text_.size() >= limit) break;
        corpus.append(path, limit);
      }
    }
    corpus.from_files_ = corpus.text_.size();
    corpus.make_up(limit);
    corpus.cut();
    return corpus;
  }

  [[nodiscard]] const std::vector<std::string_view>& documents() const { return documents_; }
  [[nodiscard]] std::size_t bytes() const { return text_.size(); }
  [[nodiscard]] std::size_t files() const { return files_; }
  [[nodiscard]] bool made_up() const { return from_files_ < text_.size(); }
  /// Tells two corpora apart.
  [[nodiscard]] std::uint64_t fingerprint() const { return hash_of(text_); }

 private:
  static constexpr std::size_t kDocument = 4096;

  static std::vector<std::string> files_below(const std::string& root) {
    namespace fs = std::filesystem;
    std::vector<std::string> found;
    std::error_code error;
    fs::recursive_directory_iterator entry(root, fs::directory_options::skip_permission_denied,
                                           error);
    while (!error && entry != fs::recursive_directory_iterator()) {
      std::error_code refused;
      if (entry->is_regular_file(refused)) found.push_back(entry->path().string());
      entry.increment(error);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  void append(const std::string& path, std::size_t limit) {
    std::ifstream file(path, std::ios::binary);
    const std::size_t before = text_.size();
    text_.resize(std::min(limit, before + (std::size_t{4} << 20)));  // of one file, at most
    file.read(text_.data() + before, static_cast<std::streamsize>(text_.size() - before));
    text_.resize(before + static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
    const std::string_view front = std::string_view(text_).substr(before, kDocument);
    if (front.empty() || front.find('\0') != std::string_view::npos) {
      text_.resize(before);
    } else {
      ++files_;
    }
  }

  void make_up(std::size_t limit) {
    std::uint64_t random = 1991;
    while (text_.size() + 16 < limit) {
      random = random * 6364136223846793005 + 1442695040888963407;
      text_ += "word" + std::to_string((random >> 33) * (random >> 40) % 50'000) + " ";
    }
  }

  void cut() {
    for (std::string_view rest = text_; !rest.empty();) {
      const std::size_t end = rest.find_first_of(" \n", std::min(rest.size(), kDocument));
      const std::size_t length = std::min({rest.size(), end, 2 * kDocument});
      documents_.push_back(rest.substr(0, length));
      rest.remove_prefix(length);
    }
  }

  // Never changed after read(): the documents look into it. A moved std::string of this length
  // keeps its place.
  std::string text_;
  std::vector<std::string_view> documents_;
  std::size_t files_ = 0;
  std::size_t from_files_ = 0;
};

/// Calls `tell(word, position)` for each run of letters, digits and underscores.
template <class Tell>
void for_each_word(std::string_view text, Tell tell) {
  const auto in_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  constexpr std::size_t kShortest = 2;
  constexpr std::size_t kLongest = 40;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    while (at < text.size() && in_word(text[at])) ++at;
    const std::size_t length = at - begin;
    if (length >= kShortest && length <= kLongest)
      tell(text.substr(begin, length), static_cast<std::uint32_t>(begin));
    if (length == 0) ++at;
  }
}

}  // namespace example

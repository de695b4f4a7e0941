// pagetrap image, from outside: what it prints, what it returns, what it leaves behind.
#include "tools/pagetrap/tests/run_command.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support.hpp"

namespace pagetrap::checkpoint::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using tool::test::Ran;
using tool::test::run_command;

/// A full image, an incremental one on top, a damaged copy, and something else.
class ImageCommand : public testing::Test {
 protected:
  void SetUp() override {
    ImageInfo info = one_region(64, 1, 0, Compression::lz4);
    info.regions.push_back({"odd\n\x1b name", 0x40000000, 2 * kPage, 0});
    make_image(full_, info, {{0, 0, written_pages(8, 1)}, {1, 0, written_pages(2, 2)}});
    info.id = id_of(2);
    info.parent = id_of(1);
    info.generation = 2;
    make_image(newest_, info, {{0, 4, written_pages(2, 3)}});
    Bytes bad = read_file(full_);
    bad[kPage + 100] ^= std::byte{1};
    std::filesystem::create_directory(folder_ / "elsewhere");
    write_file(damaged_, bad);
    write_file(text_, Bytes(500, std::byte{'x'}));
  }

  /// The only image of the output, as JSON.
  static json only_image(const Ran& ran) {
    const json all = json::parse(ran.output);
    EXPECT_EQ(all.at("schema"), "pagetrap-image/1");
    EXPECT_EQ(all.at("exit_code"), ran.status);
    EXPECT_EQ(all.at("images").size(), 1u);
    return all.at("images").at(0);
  }

  Folder folder_;
  const std::string full_ = folder_ / "full";
  const std::string newest_ = folder_ / "newest";
  const std::string damaged_ = folder_ / "elsewhere/damaged";
  const std::string text_ = folder_ / "text";
  const std::string out_ = folder_ / "out";
};

TEST_F(ImageCommand, InspectsAChain) {
  const Ran ran = run_command({"image", "inspect", newest_});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.errors, "");
  for (const std::string& word :
       {text(id_of(2)), text(id_of(1)), std::string("heap"), std::string("odd\\x0a\\x1b name"),
        std::string("lz4"), std::string("2023-11-14 22:13:20 UTC"), full_}) {
    EXPECT_THAT(ran.output, HasSubstr(word));
  }
  EXPECT_THAT(ran.output, testing::Not(HasSubstr("\x1b")));

  const json image = only_image(run_command({"image", "inspect", newest_, "--json"}));
  EXPECT_TRUE(image.at("ok"));
  EXPECT_TRUE(image.at("incremental"));
  EXPECT_EQ(image.at("parent"), text(id_of(1)));
  EXPECT_EQ(image.at("created_seconds"), 1'700'000'000);
  EXPECT_EQ(image.at("pages"), 2);
  EXPECT_EQ(image.at("regions").at(0).at("name"), "heap");
  EXPECT_EQ(image.at("regions").at(0).at("size_bytes"), 64 * kPage);
  EXPECT_EQ(image.at("chain").size(), 2u);
  EXPECT_EQ(image.at("chain").at(1).at("file"), full_);
}

TEST_F(ImageCommand, SaysWhatIsWrongWithAnImage) {
  const Ran text = run_command({"image", "inspect", text_});
  EXPECT_EQ(text.status, 1);
  EXPECT_THAT(text.errors, HasSubstr("not a pagetrap image"));
  const Ran missing = run_command({"image", "verify", folder_ / "missing"});
  EXPECT_EQ(missing.status, 3);
  EXPECT_THAT(missing.errors, HasSubstr("ENOENT"));
  std::filesystem::remove(full_);
  const Ran orphan = run_command({"image", "inspect", newest_});
  EXPECT_EQ(orphan.status, 3);
  EXPECT_THAT(orphan.output, HasSubstr("changes since"));
  EXPECT_THAT(orphan.errors, HasSubstr("not in its directory"));
}

TEST_F(ImageCommand, Verifies) {
  const Ran good = run_command({"image", "verify", full_, newest_});
  EXPECT_EQ(good.status, 0) << good.errors;
  EXPECT_THAT(good.output, HasSubstr("intact, with all its parents"));

  const Ran bad = run_command({"image", "verify", "--json", full_, damaged_});
  EXPECT_EQ(bad.status, 1);
  EXPECT_THAT(bad.errors, HasSubstr("at byte 4096"));
  EXPECT_THAT(bad.errors, HasSubstr("use another checkpoint"));
  const json images = json::parse(bad.output).at("images");
  EXPECT_TRUE(images.at(0).at("ok"));
  EXPECT_FALSE(images.at(1).at("ok"));
  EXPECT_EQ(images.at(1).at("error").at("errno_name"), "EBADMSG");
  EXPECT_EQ(images.at(1).at("error").at("position"), 4096);
}

TEST_F(ImageCommand, Merges) {
  const Ran ran =
      run_command({"image", "merge", newest_, "-o", out_, "--compression", "none", "--json"});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  const json image = only_image(ran);
  EXPECT_EQ(image.at("output"), out_);
  EXPECT_FALSE(image.at("incremental"));
  EXPECT_EQ(image.at("compression"), "none");
  EXPECT_EQ(load_all(out_), load_all(newest_));
  // As it was, to standard output.
  const Ran printed = run_command({"image", "merge", newest_, "-o", "-"});
  EXPECT_EQ(printed.status, 0) << printed.errors;
  write_file(out_, std::as_bytes(std::span(printed.output)));
  EXPECT_EQ(verify(out_).value().compression, Compression::lz4);
  EXPECT_EQ(load_all(out_), load_all(newest_));
}

TEST_F(ImageCommand, Extracts) {
  const Ran ran = run_command({"image", "extract", newest_, "--region", "heap", "-o", out_});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(read_file(out_), load_all(newest_)[0]);
  // Named as inspect prints it.
  const Ran odd =
      run_command({"image", "extract", newest_, "--region", "odd\\x0a\\x1b name", "-o", out_});
  EXPECT_EQ(odd.status, 0) << odd.errors;
  EXPECT_EQ(read_file(out_), load_all(newest_)[1]);
  const Ran unclear = run_command({"image", "extract", newest_, "-o", out_});
  EXPECT_EQ(unclear.status, 2);
  EXPECT_THAT(unclear.errors, HasSubstr("--region"));
  EXPECT_THAT(unclear.errors, HasSubstr("\"heap\""));
  make_image(folder_ / "single", one_region(4, 7), {{0, 1, written_pages(1, 1)}});
  EXPECT_EQ(run_command({"image", "extract", folder_ / "single", "-o", out_}).status, 0);
  EXPECT_EQ(std::filesystem::file_size(out_), 4 * kPage);
}

TEST_F(ImageCommand, AFailureLeavesTheOutputAlone) {
  write_file(out_, Bytes(3));
  for (const char* const verb : {"merge", "extract"}) {
    const Ran ran = run_command({"image", verb, damaged_, "-o", out_, "--json"});
    EXPECT_NE(ran.status, 0);
    EXPECT_FALSE(only_image(ran).at("ok"));
    EXPECT_EQ(read_file(out_), Bytes(3));
  }
  const Ran full = run_command({"image", "merge", full_, "-o", "/dev/null"});  // would be replaced
  EXPECT_EQ(full.status, 2);
  const Ran nowhere = run_command({"image", "merge", full_, "-o", folder_ / "no/where"});
  EXPECT_EQ(nowhere.status, 3);
  EXPECT_EQ(folder_.names().size(), 5u);
}

TEST_F(ImageCommand, PrintsNamesThatAreText) {
  const std::string name = folder_ / "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80";
  make_image(name, one_region(4, 7), {});
  EXPECT_EQ(only_image(run_command({"image", "inspect", "--json", name})).at("file"), name);
  for (const std::string odd : {"\xff", "\xc3", "\xc2\x9b", "\xe0\x80\x80", "\xed\xa0\x80"}) {
    const std::string path = folder_ / ("x" + odd);
    make_image(path, one_region(4, 8), {});
    const std::string shown =
        only_image(run_command({"image", "inspect", "--json", path})).at("file");
    EXPECT_THAT(shown, HasSubstr("/x\\x"));
  }
}

TEST_F(ImageCommand, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"image"},
        {"image", "inspect"},
        {"image", "look", full_},
        {"image", "merge", full_},
        {"image", "merge", full_, newest_, "-o", out_},
        {"image", "merge", full_, "-o", out_, "--compression", "gzip"},
        {"image", "merge", full_, "-o", "-", "--json"},
        {"image", "extract", full_, "--region"}}) {
    const Ran ran = run_command(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_EQ(ran.output, "");
    EXPECT_NE(ran.errors, "");
  }
}

}  // namespace
}  // namespace pagetrap::checkpoint::test

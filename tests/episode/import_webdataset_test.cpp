#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "episode/import/tar_reader.h"
#include "episode/tar_forge.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using forge::TarMember;
using test::TempFolder;

const Path kFixtures = Path(GATO_SOURCE_DIR) / "tests" / "episode" / "fixtures" / "import" / "webdataset";

/// Name -> content, of regular members.
std::vector<std::pair<std::string, std::string>> members_of(std::string_view archive, TarLimits limits = {}) {
  TarReader reader(open_byte_source(std::as_bytes(std::span(archive)), "memory"), "test.tar", limits);
  std::vector<std::pair<std::string, std::string>> members;
  for (TarEntry entry; reader.next(entry);) {
    if (entry.regular) members.emplace_back(entry.name, reader.read_content());
  }
  return members;
}

std::string error_of(std::string_view archive, TarLimits limits = {}) {
  try {
    static_cast<void>(members_of(archive, limits));
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

// ---------------------------------------------------------------------------------------------------------------- tar

TEST(TarReaderTest, ReadsMembersAndPassesOverOthers) {
  const std::string archive = forge::tar({{"folder/", "", '5'},
                                          {"folder/a.txt", "content"},
                                          {"folder/link", "", '2'},
                                          {"b", std::string(1000, 'b')},
                                          {"empty", ""}});
  const auto members = members_of(archive);
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0], (std::pair<std::string, std::string>("folder/a.txt", "content")));
  EXPECT_EQ(members[1].second, std::string(1000, 'b'));
  EXPECT_EQ(members[2].second, "");
}

TEST(TarReaderTest, PassesOverContentThatIsNotRead) {
  const std::string archive = forge::tar({{"a", std::string(700, 'a')}, {"b", "bee"}});
  TarReader reader(open_byte_source(std::as_bytes(std::span(archive)), "memory"), "test.tar");
  TarEntry entry;
  ASSERT_TRUE(reader.next(entry));
  ASSERT_TRUE(reader.next(entry));
  EXPECT_EQ(entry.name, "b");
  EXPECT_EQ(entry.offset, 512u + 1024u);
  EXPECT_EQ(reader.read_content(), "bee");
  EXPECT_FALSE(reader.next(entry));
  EXPECT_FALSE(reader.next(entry));
}

TEST(TarReaderTest, KnowsGnuAndPaxExtensions) {
  const std::string name(300, 'n');
  const std::string pax = cat("30 mtime=1700000000.123456789\n", forge::pax_record("path", name + ".txt"));
  EXPECT_EQ(members_of(forge::tar({{"././@LongLink", name + std::string(1, '\0'), 'L'}, {"nnn", "x"}}))[0].first, name);
  EXPECT_EQ(members_of(forge::tar({{"PaxHeader", pax, 'x'}, {"nnn", "x"}}))[0].first, name + ".txt");
  // A size in the extended header wins over the header's own.
  std::string archive = forge::tar({{"PaxHeader", forge::pax_record("size", "3"), 'x'}, {"n", "abc"}});
  const auto members = members_of(archive);
  EXPECT_EQ(members[0].second, "abc");
  // The extension belongs to the next member only.
  EXPECT_EQ(members_of(forge::tar({{"L", "long", 'L'}, {"a", "x"}, {"b", "y"}}))[1].first, "b");
}

TEST(TarReaderTest, ReadsWhatTarfileWroteInEveryFormat) {
  for (const char* kind : {"gnu", "pax", "ustar"}) {
    const auto members = members_of(read_file(kFixtures / cat("captions-", kind, ".tar")));
    ASSERT_EQ(members.size(), 2u) << kind;
    EXPECT_GT(members[1].first.size(), 100u);
    EXPECT_TRUE(members[1].first.ends_with("/sample.txt")) << members[1].first;
    EXPECT_EQ(members[1].second, "a long name");
  }
}

TEST(TarReaderTest, ReadsBinarySizes) {
  std::string archive = forge::tar({{"a", "abc"}});
  forge::set_field(archive, 0, 124, std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12));
  EXPECT_EQ(members_of(archive)[0].second, "abc");
  forge::set_field(archive, 0, 124, std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd", 12));
  EXPECT_NE(error_of(archive).find("is no number"), std::string::npos);
  forge::set_field(archive, 0, 124, std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12));
  EXPECT_NE(error_of(archive).find("is no number"), std::string::npos);
  forge::set_field(archive, 0, 124, std::string("\x80\0\0\0\0\x7f\xff\xff\xff\xff\xff\xff", 12));
  EXPECT_NE(error_of(archive).find("over the limit"), std::string::npos);
  forge::set_field(archive, 0, 124, std::string("\x80\0\0\0\0\0\0\0\0\0\x10\0", 12));  // 4096 of 3
  EXPECT_NE(error_of(archive).find("rest of the file"), std::string::npos);
}

TEST(TarReaderTest, RefusesWhatItCannotFollow) {
  const auto with = [](TarMember member) { return forge::tar({std::move(member), {"a", "x"}}); };
  EXPECT_NE(error_of(with({"s", "", 'S'})).find("sparse"), std::string::npos);
  EXPECT_NE(error_of(with({"x", forge::pax_record("GNU.sparse.major", "1"), 'x'})).find("sparse"), std::string::npos);
  EXPECT_NE(error_of(with({"g", forge::pax_record("path", "all"), 'g'})).find("all members"), std::string::npos);
  EXPECT_NE(error_of(with({"m", "", 'M'})).find("kind 'M'"), std::string::npos);
  EXPECT_NE(error_of(with({"x", "7 path=a\n", 'x'})).find("(pax) is damaged"), std::string::npos);
  EXPECT_NE(error_of(with({"x", "99999999999999999999 path=a\n", 'x'})).find("(pax) is damaged"), std::string::npos);
  EXPECT_NE(error_of(with({"x", forge::pax_record("size", "1x"), 'x'})).find("no number"), std::string::npos);
  EXPECT_NE(error_of(with({"", "x"})).find("no name"), std::string::npos);
  EXPECT_NE(error_of(with({"l", std::string(5000, 'n'), 'L'})).find("over the limit"), std::string::npos);
  EXPECT_NE(error_of(with({"l", std::string(2000000, 'n'), 'L'})).find("over the limit"), std::string::npos);
  EXPECT_NE(error_of(with({"b", std::string(20, 'b')}), {.max_member_bytes = 10}).find("over the limit"),
            std::string::npos);
  const std::string one = forge::tar({{"a", "x"}});
  EXPECT_NE(error_of(one + one).find("behind the end"), std::string::npos);
  std::string wrong = one;
  wrong[0] = 'b';
  EXPECT_NE(error_of(wrong).find("byte 0: "), std::string::npos);
  EXPECT_NE(error_of(wrong).find("checksum"), std::string::npos);
  EXPECT_NE(error_of("").find("cut short"), std::string::npos);
}

TEST(TarReaderTest, NamesTruncationAtEveryLength) {
  const std::string archive = forge::tar({{"PaxHeader", forge::pax_record("path", "long"), 'x'}, {"a", "content"}});
  ASSERT_EQ(archive.size(), 512u * 6);
  for (size_t length = 0; length < archive.size(); ++length) {
    const std::string message = error_of(archive.substr(0, length));
    // One block of the end mark is as good as two.
    EXPECT_TRUE(length >= archive.size() - 512 || message.find("cut short") != std::string::npos ||
                message.find("rest of the file") != std::string::npos)
        << length << ": " << message;
  }
}

TEST(TarReaderTest, NamesEveryFlippedByteOfAHeader) {
  const std::string archive = forge::tar({{"a", "content"}});
  for (size_t i = 0; i < 512; ++i) {
    std::string damaged = archive;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x11);
    EXPECT_NE(error_of(damaged), "no error") << i;
  }
}

// --------------------------------------------------------------------------------------------------------- WebDataset

WebDatasetImport options() {
  WebDatasetImport import;
  import.task = "pictures/test";
  return import;
}

struct Imported {
  std::vector<Episode> episodes;
  std::map<std::string, std::string> dropped;  ///< Reason -> origin.
};

Imported import_all(const ForeignFormat& format) {
  Imported imported;
  for (size_t unit = 0; unit < format.units().size(); ++unit) {
    const auto stream = format.open(unit);
    for (RawRecord record; stream->next(record);) {
      const ParsedRecord parsed = format.parse(record);
      for (const auto& part : parsed.episodes) {
        Episode prepared = part.episode;
        prepare_encoded_images(format.tasks()[0], prepared);
        check_episode(format.tasks()[0], prepared);
        imported.episodes.push_back(part.episode);
      }
      if (!parsed.dropped.empty()) imported.dropped[parsed.dropped] = record.origin;
    }
  }
  return imported;
}

Image decoded(const std::string& encoded) { return decode_image(std::as_bytes(std::span(encoded)), "test"); }

TEST(WebDatasetTest, ImportsCaptionsAsTheLibraryReadsThem) {
  const Json expected = parse_json(read_file(kFixtures / "expected.json"), "expected.json")["captions.tar"];
  WebDatasetImport import = options();
  import.height = import.width = 0;
  const Imported imported = import_all(*webdataset_format({kFixtures / "captions.tar"}, import));
  ASSERT_EQ(imported.episodes.size(), 3u);
  size_t next = 0;
  const std::string archive = read_file(kFixtures / "captions.tar");
  for (const Json& sample : expected) {
    const std::string key = sample["key"];
    if (key == "000000002" || key == "000000003") continue;  // no caption, WebP
    const Episode& episode = imported.episodes[next++];
    EXPECT_EQ(episode.id, "captions.tar/" + key);
    EXPECT_EQ(episode.action[0].text[0], trim(sample["text"].get<std::string>()));
    EXPECT_NE(archive.find(episode.observation[0].encoded[0]), std::string::npos) << "the picture's own bytes";
  }
  EXPECT_EQ(imported.dropped.at("no caption: no member txt").substr(0, 33), "captions.tar, sample '000000002' ");
  EXPECT_EQ(imported.dropped.at("picture is WebP, only JPEG and PNG are read").substr(0, 31),
            "captions.tar, sample '000000003");
}

TEST(WebDatasetTest, ResizesPicturesAndKeepsThoseThatFit) {
  const Imported imported = import_all(*webdataset_format({kFixtures / "captions.tar"}, options()));
  const std::string archive = read_file(kFixtures / "captions.tar");
  ASSERT_EQ(imported.episodes.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const std::string& encoded = imported.episodes[i].observation[0].encoded[0];
    EXPECT_EQ(decoded(encoded).height, 64);
    EXPECT_EQ(decoded(encoded).width, 64);
    // The last one has the right size already.
    EXPECT_EQ(archive.find(encoded) != std::string::npos, i == 2) << i;
  }
}

TEST(WebDatasetTest, ImportsSeveralQuestionsPerPicture) {
  WebDatasetImport import = options();
  import.question = "json:qa[].question";
  import.answer = "json:qa[].answer";
  const auto format = webdataset_format({kFixtures / "questions.tar"}, import);
  EXPECT_EQ(format->tasks()[0].observation[1].name, "question");
  EXPECT_EQ(format->tasks()[0].scoring, Scoring::kExactMatch);
  const Imported imported = import_all(*format);
  ASSERT_EQ(imported.episodes.size(), 2u);
  EXPECT_EQ(imported.episodes[1].id, "questions.tar/q0#1");
  EXPECT_EQ(imported.episodes[1].observation[1].text[0], "How many squares are there?");
  EXPECT_EQ(imported.episodes[1].action[0].text[0], "1");
  EXPECT_TRUE(imported.dropped.contains("no answer: no key 'qa[].answer'"));
  EXPECT_TRUE(imported.dropped.contains("no item in the list 'qa[]'"));
}

TEST(WebDatasetTest, TakesCaptionsFromJson) {
  WebDatasetImport import = options();
  import.caption = "json:caption";
  const Imported imported = import_all(*webdataset_format({kFixtures / "questions.tar"}, import));
  ASSERT_EQ(imported.episodes.size(), 2u);
  EXPECT_EQ(imported.episodes[1].action[0].text[0], "nothing asked");
}

TEST(WebDatasetTest, ReadsCompressedArchivesAndFolders) {
  const auto format = webdataset_format({kFixtures}, options());
  EXPECT_EQ(format->units().size(), 5u);
  EXPECT_EQ(format->units()[0].name, "captions-gnu.tar");
  EXPECT_EQ(import_all(*format).episodes.size(), 6u);
}

class WebDatasetDamageTest : public testing::Test {
 protected:
  Imported import_members(const std::vector<TarMember>& members, const WebDatasetImport& import = options()) {
    write_file_atomic(folder_ / "x.tar", forge::tar(members));
    return import_all(*webdataset_format({folder_ / "x.tar"}, import));
  }
  std::string error_of_members(const std::vector<TarMember>& members, const WebDatasetImport& import = options()) {
    try {
      static_cast<void>(import_members(members, import));
    } catch (const DataError& error) {
      return error.what();
    }
    return "no error";
  }
  TempFolder folder_{"webdataset"};
  std::string jpeg_ = encode_jpeg(Image{4, 4, std::vector<uint8_t>(48, 100)});
};

TEST_F(WebDatasetDamageTest, GroupsMembersByTheKeyUpToTheFirstPoint) {
  const Imported imported = import_members({{"__meta__.json", "{}"},
                                            {"d.ir/a.left.jpg", "not the picture"},
                                            {"d.ir/a.JPG", jpeg_},
                                            {"README", "no point"},
                                            {"d.ir/.hidden.txt", "no key"},
                                            {"d.ir/a.txt", "one"},
                                            {"d.ir/b.txt", "two"},
                                            {"d.ir/b.jpg", jpeg_},
                                            {"c.jpg", jpeg_},
                                            {"c.txt", " \n"}});
  ASSERT_EQ(imported.episodes.size(), 2u);
  EXPECT_EQ(imported.episodes[0].id, "x.tar/d.ir/a");
  EXPECT_EQ(imported.episodes[0].action[0].text[0], "one");
  EXPECT_EQ(imported.episodes[1].id, "x.tar/d.ir/b");
  EXPECT_TRUE(imported.dropped.contains("empty caption"));
}

TEST_F(WebDatasetDamageTest, NamesWhatIsWrongWithASample) {
  EXPECT_NE(error_of_members({{"a.jpg", jpeg_}, {"a.txt", "x"}, {"a.txt", "y"}}).find("'txt' occurs twice"),
            std::string::npos);
  EXPECT_NE(error_of_members({{"a.jpg", jpeg_}, {"a.txt", "caf\xe9"}}).find("not valid UTF-8 at byte 3"),
            std::string::npos);
  EXPECT_NE(error_of_members({{"a.jpg", "not a picture"}, {"a.txt", "x"}}).find("sample 'a' at byte 0"),
            std::string::npos);
  EXPECT_NE(error_of_members({{"a.jpg", jpeg_.substr(0, jpeg_.size() / 2)}, {"a.txt", "x"}}).find("sample 'a'"),
            std::string::npos);
  WebDatasetImport json = options();
  json.caption = "json:caption";
  EXPECT_NE(error_of_members({{"a.jpg", jpeg_}, {"a.json", "{"}}, json).find("member 'json'"), std::string::npos);
  EXPECT_NE(error_of_members({{"a.jpg", jpeg_}, {"a.json", "{\"caption\": 1}"}}, json).find("is not a text"),
            std::string::npos);
}

TEST_F(WebDatasetDamageTest, ALongListDoesNotFillTheMemoryWithCopiesOfItsPicture) {
  WebDatasetImport import = options();
  import.question = "json:qa[].q";
  import.answer = "json:qa[].a";
  import.height = import.width = 0;
  std::string list = R"({"q": "?", "a": "!"})";
  for (int i = 1; i < 200; ++i) list += R"(, {"q": "?", "a": "!"})";
  const std::string message = error_of_members(
      {{"a.jpg", jpeg_ + std::string(4 << 20, '\0')}, {"a.json", cat("{\"qa\": [", list, "]}")}}, import);
  EXPECT_NE(message.find("200 episodes with a picture of"), std::string::npos) << message;
}

TEST_F(WebDatasetDamageTest, RefusesOptionsThatDoNotFit) {
  write_file_atomic(folder_ / "x.tar", forge::tar({{"a.jpg", jpeg_}}));
  const auto refused = [&](const auto& change) {
    WebDatasetImport import = options();
    change(import);
    EXPECT_THROW(static_cast<void>(webdataset_format({folder_ / "x.tar"}, import)), ConfigError);
  };
  refused([](WebDatasetImport& import) { import.question = "json:q"; });
  refused([](WebDatasetImport& import) { import.question = "json:a[].q", import.answer = "json:b[].q"; });
  refused([](WebDatasetImport& import) { import.question = "q.json:a[].q", import.answer = "json:a[].q"; });
  refused([](WebDatasetImport& import) { import.caption = "json:"; });
  refused([](WebDatasetImport& import) { import.images.clear(); });
  refused([](WebDatasetImport& import) { import.height = 0; });
  refused([](WebDatasetImport& import) { import.height = 20000; });
  refused([](WebDatasetImport& import) { import.task = "no domain"; });
}

TEST_F(WebDatasetDamageTest, FlippedBytesNeverCrash) {
  const std::string archive = forge::tar({{"a.jpg", jpeg_}, {"a.txt", "caption"}});
  for (size_t i = 0; i < archive.size(); i += 3) {
    std::string damaged = archive;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x24);
    std::ofstream(folder_ / "x.tar", std::ios::binary) << damaged;
    try {
      static_cast<void>(import_all(*webdataset_format({folder_ / "x.tar"}, options())));
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace gato::episode

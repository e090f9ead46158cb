#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "episode/import/byte_source.h"
#include "episode/import/json_path.h"
#include "episode/import/line_reader.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using test::TempFolder;

const Path kFixtures = Path(GATO_SOURCE_DIR) / "tests" / "episode" / "fixtures" / "import" / "text";

std::string read_all(ByteSource& source, size_t piece = 1000) {
  std::string all;
  for (size_t count = piece; count == piece;) {
    const size_t before = all.size();
    all.resize(before + piece);
    count = source.read(std::span(all).subspan(before));
    all.resize(before + count);
  }
  return all;
}

std::string decompressed(std::string_view bytes, size_t piece = 1000, DecompressionLimits limits = {}) {
  return read_all(*open_byte_source(std::as_bytes(std::span(bytes)), "memory", limits), piece);
}

/// Message of the DataError that `body` throws; "" when it throws nothing.
template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

// ------------------------------------------------------------------------------------------------------ decompression

TEST(ByteSourceTest, ReadsWhatGzipAndZstdWrote) {
  const std::string plain = read_file(kFixtures / "documents.jsonl");
  ASSERT_GT(plain.size(), 100u);
  for (const char* name : {"documents.jsonl", "documents.jsonl.gz", "documents.jsonl.zst"}) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{100000}}) {
      const auto source = open_byte_source(kFixtures / name);
      EXPECT_EQ(read_all(*source, piece), plain) << name << " in pieces of " << piece;
      EXPECT_EQ(source->position(), std::filesystem::file_size(kFixtures / name)) << name;
    }
  }
}

TEST(ByteSourceTest, NamesTruncationAtEveryLength) {
  for (const char* name : {"documents.jsonl.gz", "documents.jsonl.zst"}) {
    const std::string whole = read_file(kFixtures / name);
    const std::string plain = decompressed(whole);
    for (size_t length = 4; length < whole.size(); ++length) {
      std::string result;
      const std::string message = error_of([&] { result = decompressed(whole.substr(0, length)); });
      // Between two gzip members nothing can be seen.
      const bool between_members = !result.empty() && result.size() < plain.size() && plain.starts_with(result);
      EXPECT_TRUE(between_members || message.find("cut short") != std::string::npos)
          << name << " " << length << message;
      EXPECT_TRUE(!between_members || std::string(name).ends_with(".gz"));
    }
  }
}

TEST(ByteSourceTest, SurvivesEveryFlippedBit) {
  for (const char* name : {"documents.jsonl.gz", "documents.jsonl.zst"}) {
    const std::string whole = read_file(kFixtures / name);
    for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
      std::string damaged = whole;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      static_cast<void>(error_of([&] { static_cast<void>(decompressed(damaged)); }));
    }
  }
}

TEST(ByteSourceTest, RefusesBombsAndLargeWindows) {
  const std::string gz = read_file(kFixtures / "documents.jsonl.gz");
  EXPECT_NE(error_of([&] { static_cast<void>(decompressed(gz, 1000, {.ratio = 1, .slack = 0})); }).find("bombs"),
            std::string::npos);
  // A frame that asks for a window of 2 GiB: magic, descriptor without size, window descriptor 31 - 10 = 21.
  const std::string window("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9);
  EXPECT_NE(error_of([&] { static_cast<void>(decompressed(window)); }).find("zstd"), std::string::npos);
}

TEST(LineReaderTest, KnowsLineEndsAndPlaces) {
  const std::string text =
      "\xef\xbb\xbf"
      "one\r\ntwo\n\nfour";
  LineReader lines(open_byte_source(std::as_bytes(std::span(text)), "memory"), "memory", 100);
  const std::vector<std::string> expected = {"one", "two", "", "four"};
  const std::vector<uint64_t> offsets = {0, 8, 12, 13};
  std::string line;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(lines.next(line));
    EXPECT_EQ(line, expected[i]);
    EXPECT_EQ(lines.line_number(), static_cast<int64_t>(i + 1));
    EXPECT_EQ(lines.line_offset(), offsets[i]);
  }
  EXPECT_FALSE(lines.next(line));
}

TEST(LineReaderTest, RefusesLinesOverTheLimit) {
  const std::string text = "short\n" + std::string(101, 'a') + "\n";
  LineReader lines(open_byte_source(std::as_bytes(std::span(text)), "memory"), "file.txt", 100);
  std::string line;
  ASSERT_TRUE(lines.next(line));
  const std::string message = error_of([&] { static_cast<void>(lines.next(line)); });
  EXPECT_NE(message.find("file.txt, line 2 at byte 6"), std::string::npos) << message;
}

// ---------------------------------------------------------------------------------------------------------- JSON path

TEST(JsonPathTest, FindsKeysItemsAndLists) {
  const Json json = parse_json(R"({"a": {"b": "x"}, "l": [{"q": "1"}, {}, {"q": "3"}], "n": 5})", "test");
  const auto find = [&](const char* path) {
    std::string found;
    for (const Json* value : JsonPath(path, "--field").find(json)) found += value == nullptr ? "-" : value->dump();
    return found;
  };
  EXPECT_EQ(find("a.b"), R"("x")");
  EXPECT_EQ(find("l[2].q"), R"("3")");
  EXPECT_EQ(find("l[].q"), R"("1"-"3")");
  EXPECT_EQ(find("l[9].q"), "-");
  EXPECT_EQ(find("missing[].q"), "");
  EXPECT_EQ(find("n.b"), "-");
  EXPECT_EQ(find("n[]"), "");
  EXPECT_EQ(JsonPath("x.l[].q", "--field").list(), "x.l[]");
}

TEST(JsonPathTest, RefusesMalformedPaths) {
  for (const char* path :
       {"", ".", "a.", "a[", "a[x]", "a[]b[", "a[].b[]", "a[-1]", "a[99999999999999999999]", "[0]"}) {
    EXPECT_THROW(JsonPath(path, "--field"), ConfigError) << path;
  }
}

// --------------------------------------------------------------------------------------------------------------- text

struct Document {
  std::string id, text;
  bool operator==(const Document&) const = default;
};

/// All documents of a format; what was left out is listed as {"", reason}.
std::vector<Document> documents_of(const ForeignFormat& format) {
  std::vector<Document> documents;
  for (size_t unit = 0; unit < format.units().size(); ++unit) {
    const auto stream = format.open(unit);
    for (RawRecord record; stream->next(record);) {
      const ParsedRecord parsed = format.parse(record);
      for (const auto& part : parsed.episodes) {
        check_episode(format.tasks().at(static_cast<size_t>(part.task)), part.episode);
        documents.push_back({part.episode.id, part.episode.action[0].text[0]});
      }
      if (!parsed.dropped.empty()) documents.push_back({"", parsed.dropped});
    }
  }
  return documents;
}

TextImport options(TextSplit split = TextSplit::kFile) {
  TextImport import;
  import.task = "text/test";
  import.split = split;
  return import;
}

TEST(TextFormatTest, TakesFilesParagraphsAndLines) {
  const Path story = kFixtures / "books" / "story.txt";
  const auto files = documents_of(*text_format({story}, options()));
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0], (Document{"story.txt", read_file(story)}));

  const auto paragraphs = documents_of(*text_format({story}, options(TextSplit::kParagraphs)));
  ASSERT_EQ(paragraphs.size(), 3u);
  EXPECT_EQ(paragraphs[0], (Document{"story.txt:1", "The first paragraph\nhas two lines."}));
  EXPECT_EQ(paragraphs[2], (Document{"story.txt:8", "The third follows after three empty lines."}));

  const auto lines = documents_of(*text_format({kFixtures / "books" / "windows.txt"}, options(TextSplit::kLines)));
  EXPECT_EQ(lines,
            (std::vector<Document>{
                {"windows.txt:1", "one"}, {"windows.txt:2", "two"}, {"", "empty text"}, {"windows.txt:4", "three"}}));
}

TEST(TextFormatTest, GivesTheSameDocumentsFromCompressedFiles) {
  const auto plain = documents_of(*text_format({kFixtures / "documents.jsonl"}, options()));
  ASSERT_EQ(plain.size(), 5u);
  EXPECT_EQ(plain[1].text, "Ein Dokument mit Umlauten: äöü\nund zwei Zeilen.");
  EXPECT_EQ(plain[2], (Document{"", "empty text"}));
  EXPECT_EQ(plain[3], (Document{"", "no key 'text'"}));
  EXPECT_EQ(plain[4].text, "\u6587\u66f8 \U0001f600");
  for (const char* name : {"documents.jsonl.gz", "documents.jsonl.zst"}) {
    auto documents = documents_of(*text_format({kFixtures / name}, options()));
    ASSERT_EQ(documents.size(), plain.size());
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(documents[i].text, plain[i].text) << name;
  }
}

TEST(TextFormatTest, TakesIdsFromTheDocuments) {
  TextImport import = options();
  import.id_field = "id";
  EXPECT_EQ(documents_of(*text_format({kFixtures / "documents.jsonl"}, import))[1].id, "18");
  import.id_field = "meta.language";
  EXPECT_NE(error_of([&] {
              static_cast<void>(documents_of(*text_format({kFixtures / "documents.jsonl"}, import)));
            }).find("line 2 at byte"),
            std::string::npos);
}

TEST(TextFormatTest, SearchesFoldersInNameOrder) {
  const auto format = text_format({kFixtures}, options());
  std::vector<std::string> names;
  for (const ImportUnit& unit : format->units()) names.push_back(unit.name);
  EXPECT_EQ(names, (std::vector<std::string>{"books/story.txt", "books/story.txt.gz", "books/windows.txt",
                                             "documents.jsonl", "documents.jsonl.gz", "documents.jsonl.zst"}));
}

TEST(TextFormatTest, NamesTwoFilesOfOneNameApart) {
  const TempFolder folder("import_text");
  for (const char* name : {"a/x.txt", "b/x.txt"}) write_file_atomic(folder / name, name);
  const auto format = text_format({folder / "a" / "x.txt", folder / "b" / "x.txt"}, options());
  EXPECT_NE(format->units()[0].name, format->units()[1].name);
}

TEST(TextFormatTest, RefusesWhatIsNoText) {
  const TempFolder folder("import_text");
  const auto error = [&](const char* name, const std::string& content) {
    write_file_atomic(folder / name, content);
    return error_of([&] { static_cast<void>(documents_of(*text_format({folder / name}, options()))); });
  };
  EXPECT_NE(error("latin.txt", "caf\xe9").find("latin.txt: not valid UTF-8 at byte 3"), std::string::npos);
  EXPECT_NE(error("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \n").find("a.jsonl, line 2 at byte 14"), std::string::npos);
  EXPECT_NE(error("b.jsonl", "[\"x\"]\n").find("one object"), std::string::npos);
  EXPECT_NE(error("c.jsonl", "{\"text\": 5}\n").find("--field"), std::string::npos);
  EXPECT_NE(error("d.jsonl", "{\"text\": \"caf\xe9\"}\n").find("d.jsonl"), std::string::npos);
  EXPECT_NE(error("e.jsonl", std::string(100, '[')).find("e.jsonl"), std::string::npos);
  EXPECT_THROW(static_cast<void>(text_format({folder / "none"}, options())), ConfigError);
  make_folders(folder / "empty");
  EXPECT_THROW(static_cast<void>(text_format({folder / "empty"}, options())), ConfigError);
  TextImport listed = options();
  listed.field = "a[].b";
  EXPECT_THROW(static_cast<void>(text_format({folder / "a.jsonl"}, listed)), ConfigError);
}

TEST(TextFormatTest, TruncatedAndFlippedJsonLinesNeverCrash) {
  const TempFolder folder("import_text");
  const std::string whole = read_file(kFixtures / "documents.jsonl");
  const Path path = folder / "x.jsonl";
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = i % 2 == 0 ? whole.substr(0, i) : whole;
    if (i % 2 != 0) damaged[i] = static_cast<char>(damaged[i] ^ 0x80);
    std::ofstream(path, std::ios::binary) << damaged;
    static_cast<void>(error_of([&] { static_cast<void>(documents_of(*text_format({path}, options()))); }));
  }
}

}  // namespace
}  // namespace gato::episode

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <map>

#include "episode/import/hash_set.h"
#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/episode/import.h"
#include "gato/episode/inspect.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using sample::document_task;
using test::TempFolder;

std::string content_of(const Path& path) { return read_file(path); }

/// Name -> content of the shards of a folder.
std::map<std::string, std::string> shards_of(const Path& folder) {
  std::map<std::string, std::string> shards;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".gato") shards[entry.path().filename().string()] = content_of(entry.path());
  }
  return shards;
}

std::vector<std::string> texts_of(const Path& folder) {
  std::vector<std::string> texts;
  for (const Path& path : list_shards(folder)) {
    const ShardReader shard(path);
    for (int64_t i = 0; i < static_cast<int64_t>(shard.index().size()); ++i) {
      texts.push_back(shard.read(i).action[0].text[0]);
    }
  }
  return texts;
}

/// Units of records in memory. A record "a b c" gives an episode per word; the words "damaged" and "nothing" are a
/// damaged record and one that is left out; "duplicate" has the same id everywhere.
class WordFormat : public ForeignFormat {
 public:
  /// A text per unit: its records, divided by "|".
  explicit WordFormat(const std::vector<std::string>& units) : tasks_{document_task()} {
    for (const std::string& unit : units)
      units_.push_back(unit.empty() ? std::vector<std::string>() : split(unit, '|'));
  }

  const std::vector<TaskSpec>& tasks() const override { return tasks_; }
  std::vector<ImportUnit> units() const override {
    std::vector<ImportUnit> units;
    for (size_t i = 0; i < units_.size(); ++i) units.push_back({cat("unit", i), units_[i].size()});
    return units;
  }
  std::unique_ptr<RecordStream> open(size_t unit) const override {
    class Stream final : public RecordStream {
     public:
      Stream(const WordFormat& format, size_t from) : format_(format), unit_(from) {}
      bool next(RawRecord& record) override {
        const std::vector<std::string>& records = format_.units_[unit_];
        if (next_ == records.size()) return false;
        if (records[next_] == "broken framing") throw DataError(cat("unit", unit_, ", record ", next_, ": framing"));
        if (++format_.reads == format_.stop_after) request_stop();
        record.origin = cat("unit", unit_, ", record ", next_);
        record.parts = {{"", records[next_]}};
        ++next_;
        return true;
      }
      uint64_t position() const override { return next_; }

     private:
      const WordFormat& format_;
      size_t unit_, next_ = 0;
    };
    return std::make_unique<Stream>(*this, unit);
  }
  ParsedRecord parse(const RawRecord& record) const override {
    ++parses;
    ParsedRecord parsed;
    int number = 0;
    for (const std::string& word : split(record.parts.at(0).second, ' ')) {
      if (word == "damaged") throw DataError(record.origin + ": damaged");
      if (word == "nothing") {
        parsed.dropped = "says nothing";
        continue;
      }
      const std::string id = word == "duplicate" ? word : cat(record.origin, "#", number++);
      parsed.episodes.push_back({0, sample::document(id, word + std::string(200, '.'))});
    }
    return parsed;
  }
  std::vector<std::string> mapping() const override { return {"word: -> text action `text`"}; }

  mutable std::atomic<int64_t> reads{0}, parses{0};
  int64_t stop_after = 0;

 private:
  std::vector<std::vector<std::string>> units_;
  std::vector<TaskSpec> tasks_;
};

ImportOptions options_for(const Path& out, uint64_t shard_bytes = 2000) {
  ImportOptions options;
  options.out = out;
  options.info = {"text/words", "Words.", "CC0-1.0", "test"};
  options.shard_bytes = shard_bytes;
  options.arguments = "words";
  return options;
}

/// Three units of many records, some of several episodes.
std::vector<std::string> many_records() {
  std::vector<std::string> records;
  for (int i = 0; i < 700; ++i) records.push_back(i % 7 == 0 ? cat("a", i, " b c d e f g h") : cat("w", i));
  return std::vector<std::string>(3, join(records, "|"));
}

class ImportTest : public testing::Test {
 protected:
  void SetUp() override { clear_signal_flags(); }
  void TearDown() override {
    clear_signal_flags();
    set_thread_budget(0);
  }
  TempFolder folder_{"import"};
};

TEST_F(ImportTest, WritesEveryEpisodeInOrderAndCounts) {
  const WordFormat format(std::vector<std::string>{"one two|three", "", "four nothing|nothing"});
  const ImportSummary summary = import_dataset(format, options_for(folder_ / "out"));
  EXPECT_EQ(summary.records, 4);
  EXPECT_EQ(summary.episodes, 4);
  EXPECT_EQ(summary.steps, 4);
  EXPECT_EQ(summary.shards, 1);
  EXPECT_FALSE(summary.reused);
  EXPECT_EQ(summary.mapping, format.mapping());
  ASSERT_EQ(summary.dropped.size(), 1u);
  EXPECT_EQ(summary.dropped.at("says nothing").count, 2);
  EXPECT_EQ(summary.dropped.at("says nothing").first, "unit2, record 0");
  const std::vector<std::string> texts = texts_of(folder_ / "out");
  ASSERT_EQ(texts.size(), 4u);
  EXPECT_EQ(texts[0].substr(0, 4), "one.");
  EXPECT_EQ(texts[3].substr(0, 5), "four.");
  EXPECT_EQ(ShardReader(folder_ / "out" / "text-words-00000.gato").info().licence, "CC0-1.0");
}

TEST_F(ImportTest, GivesTheSameShardsForAnyNumberOfThreads) {
  const WordFormat format(many_records());
  for (const int threads : {1, 2, 5}) {
    set_thread_budget(threads);
    const ImportSummary summary = import_dataset(format, options_for(folder_ / cat(threads), 60000));
    EXPECT_EQ(summary.records, 2100);
    EXPECT_EQ(summary.episodes, 3 * (700 + 100 * 7));
    EXPECT_GT(summary.shards, 5);
  }
  EXPECT_EQ(shards_of(folder_ / "1"), shards_of(folder_ / "2"));
  EXPECT_EQ(shards_of(folder_ / "1"), shards_of(folder_ / "5"));
}

TEST_F(ImportTest, GoesOnAfterInterruptionsWithTheSameShards) {
  const ImportSummary whole = import_dataset(WordFormat(many_records()), options_for(folder_ / "whole", 60000));
  int interruptions = 0;
  int64_t parses = 0;
  ImportSummary resumed;
  for (bool done = false; !done;) {
    clear_signal_flags();
    WordFormat format(many_records());
    // Far enough that every run commits something: three batches are on their way.
    format.stop_after = 1600 + 100 * interruptions;
    try {
      resumed = import_dataset(format, options_for(folder_ / "parts", 60000));
      done = true;
    } catch (const Interrupted&) {
      ASSERT_LT(++interruptions, 20);
    }
    parses += format.parses;
  }
  EXPECT_GT(interruptions, 0);
  EXPECT_LT(parses, 2 * 2100) << "records before the committed shards must not be parsed again";
  EXPECT_EQ(shards_of(folder_ / "parts"), shards_of(folder_ / "whole"));
  EXPECT_EQ(resumed.episodes, whole.episodes);
  EXPECT_EQ(resumed.steps, whole.steps);
  EXPECT_EQ(resumed.records, whole.records);
  EXPECT_EQ(resumed.shards, whole.shards);
}

TEST_F(ImportTest, GoesOnInsideARecordOfManyEpisodes) {
  std::string words = "w";
  for (int i = 0; i < 100; ++i) words += cat(" w", i);
  const std::vector<std::string> good = {words + "|" + words}, broken = {good[0] + "|broken framing"};
  const ImportSummary whole = import_dataset(WordFormat(good), options_for(folder_ / "whole", 5000));
  // The source is unfinished at first, of the same size: the third record cannot be read.
  struct Unfinished final : WordFormat {
    using WordFormat::WordFormat;
    std::vector<ImportUnit> units() const override { return {{"unit0", 2}}; }
  };
  EXPECT_THROW(static_cast<void>(import_dataset(Unfinished(broken), options_for(folder_ / "parts", 5000))), DataError);
  EXPECT_GT(shards_of(folder_ / "parts").size(), 2u);
  const ImportSummary resumed = import_dataset(WordFormat(good), options_for(folder_ / "parts", 5000));
  EXPECT_EQ(resumed.episodes, whole.episodes);
  EXPECT_EQ(resumed.records, 2);
  EXPECT_EQ(shards_of(folder_ / "parts"), shards_of(folder_ / "whole"));
}

TEST_F(ImportTest, KeepsWhatIsCommittedWhenTheDiskIsFull) {
  const ImportSummary whole = import_dataset(WordFormat(many_records()), options_for(folder_ / "whole", 100000));
  try {
    const testing_hooks::ScopedFileFault fault({.operation = testing_hooks::FileOperation::kWrite,
                                                .nth = 5,
                                                .all_after = true,
                                                .error_number = ENOSPC,
                                                .path_contains = ".gato"});
    static_cast<void>(import_dataset(WordFormat(many_records()), options_for(folder_ / "out", 100000)));
    FAIL();
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_NE(std::string(error.what()).find("the same command goes on"), std::string::npos) << error.what();
  }
  static_cast<void>(import_dataset(WordFormat(many_records()), options_for(folder_ / "out", 100000)));
  EXPECT_EQ(shards_of(folder_ / "out"), shards_of(folder_ / "whole"));
}

TEST_F(ImportTest, SurvivesEveryFailedRename) {
  static_cast<void>(import_dataset(WordFormat(many_records()), options_for(folder_ / "whole", 500000)));
  for (int64_t nth = 1;; ++nth) {
    const Path out = folder_ / cat("out", nth);
    bool failed = false;
    {
      const testing_hooks::ScopedFileFault fault(
          {.operation = testing_hooks::FileOperation::kRename, .nth = nth, .error_number = EIO});
      try {
        static_cast<void>(import_dataset(WordFormat(many_records()), options_for(out, 500000)));
      } catch (const IoError&) {
        failed = true;
      }
    }
    if (!failed) break;
    static_cast<void>(import_dataset(WordFormat(many_records()), options_for(out, 500000)));
    EXPECT_EQ(shards_of(out), shards_of(folder_ / "whole")) << "rename " << nth;
    ASSERT_LT(nth, 100);
  }
}

TEST_F(ImportTest, IsReusedWhenComplete) {
  const WordFormat format(many_records());
  const ImportSummary first = import_dataset(format, options_for(folder_ / "out", 300000));
  const int64_t parses = format.parses;
  const ImportSummary second = import_dataset(format, options_for(folder_ / "out", 300000));
  EXPECT_TRUE(second.reused);
  EXPECT_EQ(second.episodes, first.episodes);
  EXPECT_EQ(second.records, first.records);
  EXPECT_EQ(second.shards, first.shards);
  EXPECT_EQ(format.parses, parses);
}

TEST_F(ImportTest, NamesAShardThatWasChangedSince) {
  const WordFormat format(std::vector<std::string>{"one|two"});
  static_cast<void>(import_dataset(format, options_for(folder_ / "out")));
  std::filesystem::remove(folder_ / "out" / "text-words-00000.gato");
  try {
    static_cast<void>(import_dataset(format, options_for(folder_ / "out")));
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("text-words-00000.gato"), std::string::npos) << error.what();
  }
}

TEST_F(ImportTest, RefusesTheFolderOfAnotherImport) {
  static_cast<void>(import_dataset(WordFormat(std::vector<std::string>{"one"}), options_for(folder_ / "out")));
  const auto message_of = [&](const WordFormat& format, const ImportOptions& options) -> std::string {
    try {
      static_cast<void>(import_dataset(format, options));
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(
      message_of(WordFormat(std::vector<std::string>{"one|two"}), options_for(folder_ / "out")).find("source files"),
      std::string::npos);
  ImportOptions other = options_for(folder_ / "out");
  other.arguments = "words --loud";
  other.limit = 3;
  EXPECT_NE(message_of(WordFormat(std::vector<std::string>{"one"}), other).find("arguments, limit"), std::string::npos);

  ShardWriter writer(folder_ / "own" / "mine.gato", {"mine", "", "", ""}, {document_task()});
  writer.finish();
  EXPECT_NE(message_of(WordFormat(std::vector<std::string>{"one"}), options_for(folder_ / "own")).find("mine.gato"),
            std::string::npos);
}

TEST_F(ImportTest, StopsAtADamagedRecordUnlessToldToLeaveItOut) {
  const WordFormat format(std::vector<std::string>{"one|two|damaged|three|four damaged"});
  ImportOptions options = options_for(folder_ / "out");
  try {
    static_cast<void>(import_dataset(format, options));
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("unit0, record 2: damaged"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--drop-damaged"), std::string::npos) << error.what();
  }
  options.drop_damaged = true;  // The same import goes on.
  const ImportSummary summary = import_dataset(format, options);
  EXPECT_EQ(summary.records, 5);
  EXPECT_EQ(summary.episodes, 3);
  EXPECT_EQ(summary.dropped.at("damaged record").count, 2);
  EXPECT_EQ(summary.dropped.at("damaged record").first, "unit0, record 2: damaged");
}

TEST_F(ImportTest, StopsAtBrokenFramingEvenWhenDamageIsLeftOut) {
  ImportOptions options = options_for(folder_ / "out", 100);
  options.drop_damaged = true;
  EXPECT_THROW(
      static_cast<void>(import_dataset(WordFormat(std::vector<std::string>{"one|broken framing|two"}), options)),
      DataError);
  EXPECT_EQ(shards_of(folder_ / "out").size(), 1u) << "what stood before is committed";
  EXPECT_THROW(static_cast<void>(list_shards(folder_ / "out")), ConfigError) << "an unfinished import is no data set";
  EXPECT_EQ(list_shards(folder_ / "out" / "text-words-00000.gato").size(), 1u) << "a single shard may be looked at";
}

TEST_F(ImportTest, NeverWritesAnEpisodeIdTwice) {
  for (const uint64_t shard_bytes : {uint64_t{100}, uint64_t{1} << 20}) {  // In another shard, and in the same.
    const WordFormat format(std::vector<std::string>{"duplicate|one|duplicate|two"});
    ImportOptions options = options_for(folder_ / cat(shard_bytes), shard_bytes);
    try {
      static_cast<void>(import_dataset(format, options));
      FAIL();
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("'duplicate'"), std::string::npos) << error.what();
    }
    options.drop_damaged = true;
    const ImportSummary summary = import_dataset(format, options);
    EXPECT_EQ(summary.episodes, 3);
    EXPECT_EQ(summary.dropped.at("episode id that was there already").count, 1);
  }
}

TEST_F(ImportTest, AsksTheContentFilterForEveryText) {
  ImportOptions options = options_for(folder_ / "out");
  options.content_filter = [](std::string_view text) { return text.starts_with("bad") ? "bad word" : ""; };
  options.content_filter_digest = "1";
  const WordFormat format(std::vector<std::string>{"good bad good|bad", "fine"});
  const ImportSummary summary = import_dataset(format, options);
  EXPECT_EQ(summary.records, 3);
  EXPECT_EQ(summary.episodes, 3);
  EXPECT_EQ(summary.dropped.at("content filter: bad word").count, 2);
  for (const std::string& text : texts_of(folder_ / "out")) EXPECT_FALSE(text.starts_with("bad"));
  options.content_filter_digest = "2";
  EXPECT_THROW(static_cast<void>(import_dataset(format, options)), ConfigError);
}

TEST_F(ImportTest, StopsAtTheLimit) {
  ImportOptions options = options_for(folder_ / "out");
  options.limit = 3;
  const ImportSummary summary = import_dataset(WordFormat(std::vector<std::string>{"1|2", "3|4"}), options);
  EXPECT_EQ(summary.records, 3);
  EXPECT_EQ(texts_of(folder_ / "out").size(), 3u);
}

TEST_F(ImportTest, SaysWhyNothingWasLeft) {
  try {
    static_cast<void>(
        import_dataset(WordFormat(std::vector<std::string>{"nothing|nothing"}), options_for(folder_ / "out")));
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("2 x says nothing (first: unit0, record 0)"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(static_cast<void>(import_dataset(WordFormat(std::vector<std::string>{}), options_for(folder_ / "none"))),
               ConfigError);
}

TEST_F(ImportTest, NamesADamagedStateFile) {
  const WordFormat format(std::vector<std::string>{"one"});
  static_cast<void>(import_dataset(format, options_for(folder_ / "out")));
  const std::string good = content_of(folder_ / "out" / "import.json");
  for (size_t length = 0; length < good.size() - 2; length += 41) {
    write_file_atomic(folder_ / "out" / "import.json", std::string_view(good).substr(0, length));
    EXPECT_THROW(static_cast<void>(import_dataset(format, options_for(folder_ / "out"))), DataError) << length;
  }
}

TEST_F(ImportTest, DescribesTheFirstEpisodeAndWritesNothing) {
  const WordFormat format(std::vector<std::string>{"nothing|hello there"});
  const std::string text = describe_first_episode(format, options_for(folder_ / "out"));
  EXPECT_NE(text.find("unit0, record 1"), std::string::npos) << text;
  EXPECT_NE(text.find("1 x says nothing"), std::string::npos) << text;
  EXPECT_NE(text.find("hello..."), std::string::npos) << text;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

// ------------------------------------------------------------------------------------------------------------- images

/// One record per picture, given as the bytes of a file.
class PictureFormat final : public ForeignFormat {
 public:
  PictureFormat(std::vector<std::string> files, ImageCodec codec) : files_(std::move(files)) {
    TaskSpec task = document_task("pictures/caption");
    task.observation = {sample::image_field("image", 8, 8, codec)};
    tasks_ = {task};
  }
  const std::vector<TaskSpec>& tasks() const override { return tasks_; }
  std::vector<ImportUnit> units() const override { return {{"pictures", 1}}; }
  std::unique_ptr<RecordStream> open(size_t) const override {
    class Stream final : public RecordStream {
     public:
      explicit Stream(const std::vector<std::string>& files) : files_(files) {}
      bool next(RawRecord& record) override {
        if (next_ == files_.size()) return false;
        record = {cat("picture ", next_), {{"", files_[next_]}}};
        ++next_;
        return true;
      }
      uint64_t position() const override { return next_; }

     private:
      const std::vector<std::string>& files_;
      size_t next_ = 0;
    };
    return std::make_unique<Stream>(files_);
  }
  ParsedRecord parse(const RawRecord& record) const override {
    Episode episode = sample::document(record.origin, "caption");
    episode.observation.resize(1);
    episode.observation[0].encoded = {record.parts[0].second};
    return {{{0, episode}}, ""};
  }
  std::vector<std::string> mapping() const override { return {}; }

 private:
  std::vector<std::string> files_;
  std::vector<TaskSpec> tasks_;
};

Image small_picture(int32_t side = 8) {
  Image image{side, side, {}};
  for (int32_t i = 0; i < side * side * 3; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 7));
  return image;
}

TEST_F(ImportTest, StoresEncodedImagesByteForByte) {
  const std::string jpeg = encode_jpeg(small_picture(), 71), png = encode_png(small_picture());
  for (const ImageCodec codec : {ImageCodec::kJpeg, ImageCodec::kPng}) {
    const bool stores_jpeg = codec == ImageCodec::kJpeg;
    const Path out = folder_ / (stores_jpeg ? "jpeg" : "png");
    static_cast<void>(import_dataset(PictureFormat({jpeg, png}, codec), options_for(out)));
    const ShardReader shard(out / "text-words-00000.gato");
    const auto stored = [&](uint64_t step) {
      const auto bytes = shard.encoded_image(0, Group::kObservation, 0, step);
      return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    EXPECT_EQ(stored(stores_jpeg ? 0 : 1), stores_jpeg ? jpeg : png);
    EXPECT_NE(stored(stores_jpeg ? 1 : 0), stores_jpeg ? png : jpeg) << "the other codec is encoded anew";
    EXPECT_TRUE(verify_files(shard.path(), {.contents = true}).empty());
    EXPECT_EQ(shard.read(stores_jpeg ? 1 : 0).observation[0].images[0].height, 8);
  }
}

TEST_F(ImportTest, TakesADamagedImageForADamagedRecord) {
  const std::string good = encode_jpeg(small_picture(), 71);
  const std::vector<std::string> files = {good, good.substr(0, good.size() / 2), encode_jpeg(small_picture(9)), "text"};
  ImportOptions options = options_for(folder_ / "out");
  options.drop_damaged = true;
  const ImportSummary summary = import_dataset(PictureFormat(files, ImageCodec::kJpeg), options);
  EXPECT_EQ(summary.episodes, 1);
  EXPECT_EQ(summary.dropped.at("damaged record").count, 3);
}

TEST(EncodedImageTest, IsCheckedBySizeAndCodec) {
  TaskSpec task = document_task();
  task.observation = {sample::image_field("image", 8, 8, ImageCodec::kPng)};
  Episode episode = sample::document("1", "x");
  episode.observation.resize(1);
  const auto check = [&](std::vector<std::string> encoded) {
    episode.observation[0].encoded = std::move(encoded);
    check_episode(task, episode);
  };
  EXPECT_NO_THROW(check({encode_png(small_picture())}));
  EXPECT_EQ(value_at(episode.observation[0], task.observation[0], 0).image, small_picture());
  EXPECT_THROW(check({encode_png(small_picture(9))}), DataError);
  EXPECT_THROW(check({encode_jpeg(small_picture())}), DataError);
  EXPECT_THROW(check({encode_png(small_picture()), encode_png(small_picture())}), DataError);
  EXPECT_THROW(check({"no picture"}), DataError);
  episode.observation[0].images = {small_picture()};
  EXPECT_THROW(check({encode_png(small_picture())}), DataError) << "images and encoded images at once";
}

TEST(HashSetTest, KnowsWhatItHolds) {
  HashSet set;
  for (uint64_t i = 0; i < 5000; ++i) EXPECT_TRUE(set.insert(i * 0x9E3779B97F4A7C15u)) << i;
  for (uint64_t i = 0; i < 5000; ++i) EXPECT_FALSE(set.insert(i * 0x9E3779B97F4A7C15u)) << i;
  for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(set.insert(0x8000000000000000u + i * 4096)) << i;  // One place.
}

}  // namespace
}  // namespace gato::episode

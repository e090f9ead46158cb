#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "episode/sample_data.h"
#include "episode/stream_forge.h"
#include "gato/core/signals.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using test::TempFolder;
namespace forge = stream_forge;

const TaskSpec kMixed = sample::mixed_task();
const TaskSpec kDocument = sample::document_task();

std::string good_header(bool checked = true) {
  return forge::frame(forge::kHeader, forge::header({kMixed, kDocument}), checked);
}

/// What the sample's episodes look like after their images became encoded ones.
Episode with_encoded_images(Episode episode) {
  for (Column& column : episode.observation) {
    for (const Image& image : column.images) column.encoded.push_back(encode_png(image));
    column.images.clear();
  }
  return episode;
}

std::vector<Episode> sample_episodes() {
  return {with_encoded_images(sample::random_episode(kMixed, 1, 3, {.reward = true, .label = true})),
          with_encoded_images(sample::random_episode(kMixed, 2, 1)),
          sample::random_episode(kDocument, 3, 1, {.reward = false})};
}

std::string good_stream(bool checked = true, bool packed = true) {
  const std::vector<Episode> episodes = sample_episodes();
  return good_header(checked) + forge::frame(forge::kEpisode, forge::episode(0, episodes[0], packed), checked) +
         forge::frame(forge::kEpisode, forge::episode(0, episodes[1], packed), checked) +
         forge::frame(forge::kDropped, forge::bytes(1, "too short") + forge::bytes(2, "file 7"), checked) +
         forge::frame(forge::kEpisode, forge::episode(1, episodes[2], packed), checked) +
         forge::frame(forge::kEnd, forge::end(3, 5, 1), checked);
}

void write(const Path& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

struct Result {
  std::vector<ParsedRecord> records;
  std::vector<std::string> damaged;  ///< Messages of records that did not parse, then of what stopped the reading.
};

Result read_all(const ForeignFormat& format) {
  Result result;
  RawRecord record;
  const auto records = format.open(0);
  try {
    while (records->next(record)) {
      try {
        result.records.push_back(format.parse(record));
      } catch (const DataError& error) {
        result.damaged.emplace_back(error.what());
      }
    }
  } catch (const DataError& error) {
    result.damaged.emplace_back(error.what());
  }
  return result;
}

Result read_file_stream(const Path& path) { return read_all(*stream_format(path).format); }

/// The message of the DataError that reading `content` throws; empty when it does not.
std::string error_of(const TempFolder& folder, const std::string& content) {
  const Path path = folder / "bad.stream";
  std::filesystem::remove(path);  // Some file systems flush a file that is written again.
  write(path, content);
  try {
    const Result result = read_file_stream(path);
    return result.damaged.empty() ? "" : result.damaged.front();
  } catch (const DataError& error) {
    return error.what();
  }
}

void expect_error(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "message: " << message << "\nexpected in it: " << part;
}

void expect_samples(const Result& result) {
  const std::vector<Episode> expected = sample_episodes();
  ASSERT_TRUE(result.damaged.empty()) << result.damaged.front();
  ASSERT_EQ(result.records.size(), 4u);
  EXPECT_EQ(result.records[0].episodes.at(0).episode, expected[0]);
  EXPECT_EQ(result.records[0].episodes.at(0).task, 0);
  EXPECT_EQ(result.records[1].episodes.at(0).episode, expected[1]);
  EXPECT_EQ(result.records[2].dropped, "too short");
  EXPECT_TRUE(result.records[2].episodes.empty());
  EXPECT_EQ(result.records[3].episodes.at(0).episode, expected[2]);
  EXPECT_EQ(result.records[3].episodes.at(0).task, 1);
}

TEST(StreamTest, ReadsHeaderAndEveryModality) {
  const TempFolder folder;
  write(folder / "a.stream", good_stream());
  const OpenedStream stream = stream_format(folder / "a.stream");
  EXPECT_EQ(stream.info.name, "sample/stream");
  EXPECT_EQ(stream.info.licence, "CC0-1.0");
  ASSERT_EQ(stream.format->tasks().size(), 2u);
  EXPECT_EQ(stream.format->tasks()[0], kMixed);
  EXPECT_EQ(stream.format->tasks()[1], kDocument);
  EXPECT_EQ(stream.format->mapping(), std::vector<std::string>{"a: became b"});
  ASSERT_EQ(stream.format->units().size(), 1u);
  EXPECT_EQ(stream.format->units()[0].bytes, good_stream().size());
  expect_samples(read_all(*stream.format));
  expect_samples(read_all(*stream.format));  // A file can be opened again.
}

TEST(StreamTest, ReadsUncheckedFramesAndUnpackedNumbers) {
  const TempFolder folder;
  write(folder / "a.stream", good_stream(false, false));
  expect_samples(read_file_stream(folder / "a.stream"));
}

TEST(StreamTest, ReadsZstd) {
  const TempFolder folder;
  const std::string plain = good_stream();
  std::string packed(ZSTD_compressBound(plain.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 3));
  write(folder / "a.zst", packed);
  expect_samples(read_file_stream(folder / "a.zst"));
  for (size_t size = 0; size < packed.size(); ++size) {
    EXPECT_NE(error_of(folder, packed.substr(0, size)), "") << "cut to " << size;
  }
}

TEST(StreamTest, ReadsPipeOnceAndTellsItsEnd) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread writer([&] {
    const std::string content = good_stream();
    for (size_t i = 0; i < content.size(); i += 1000) {
      const std::string piece = content.substr(i, 1000);
      ASSERT_EQ(::write(ends[1], piece.data(), piece.size()), static_cast<ssize_t>(piece.size()));
    }
    ::close(ends[1]);
  });
  int finished = 0;
  const OpenedStream stream = stream_format(ends[0], "a program", [&] { ++finished; });
  EXPECT_EQ(stream.format->units()[0].name, "a program");
  expect_samples(read_all(*stream.format));
  EXPECT_EQ(finished, 1);
  EXPECT_THROW(static_cast<void>(stream.format->open(0)), ConfigError);
  writer.join();
  ::close(ends[0]);
}

TEST(StreamTest, TheProgramsOwnFailureExplainsAStreamThatStops) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string content = good_header();
  ASSERT_EQ(::write(ends[1], content.data(), content.size()), static_cast<ssize_t>(content.size()));
  ::close(ends[1]);
  const OpenedStream stream =
      stream_format(ends[0], "a program", [] { throw DataError("the program ended with code 3"); });
  RawRecord record;
  const auto records = stream.format->open(0);
  try {
    static_cast<void>(records->next(record));
    FAIL() << "no error";
  } catch (const DataError& error) {
    expect_error(error.what(), "code 3");
  }
  ::close(ends[0]);
}

TEST(StreamTest, AStopSignalEndsTheWaitForAPipe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  request_stop();
  EXPECT_THROW(static_cast<void>(stream_format(ends[0], "a silent program", nullptr)), Interrupted);
  clear_signal_flags();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(StreamTest, MissingIdsAreMadeFromTheRecordsNumber) {
  const TempFolder folder;
  Episode episode = sample_episodes()[2];
  episode.id.clear();
  write(folder / "a.stream", good_header() + forge::frame(forge::kEpisode, forge::episode(1, episode)) +
                                 forge::frame(forge::kEpisode, forge::episode(1, episode)) +
                                 forge::frame(forge::kEnd, forge::end(2, 2)));
  const Result result = read_file_stream(folder / "a.stream");
  ASSERT_EQ(result.records.size(), 2u);
  EXPECT_EQ(result.records[0].episodes[0].episode.id, "record-0");
  EXPECT_EQ(result.records[1].episodes[0].episode.id, "record-1");
}

TEST(StreamTest, UnknownFieldsAndContentsArePassedOver) {
  const TempFolder folder;
  const std::string episode = forge::episode(1, sample_episodes()[2]) + forge::bytes(99, "later") +
                              forge::number(98, 7) + forge::fixed32(97, 1);
  write(folder / "a.stream", good_header() + forge::frame(50, "a later kind") + forge::frame(forge::kEpisode, episode) +
                                 forge::frame(forge::kEnd, forge::end(1, 1)));
  const Result result = read_file_stream(folder / "a.stream");
  ASSERT_EQ(result.records.size(), 1u);
  EXPECT_EQ(result.records[0].episodes[0].episode, sample_episodes()[2]);
}

TEST(StreamTest, EveryTruncationIsAnError) {
  const TempFolder folder;
  const std::string content = good_stream();
  for (size_t size = 0; size < content.size(); ++size) {
    const std::string message = error_of(folder, content.substr(0, size));
    EXPECT_NE(message.find("bad.stream"), std::string::npos) << "cut to " << size << ": " << message;
  }
}

/// A changed byte may hide a checksum, but then what it covers is unchanged.
TEST(StreamTest, EveryFlippedByteIsAnErrorOrChangesNothing) {
  const TempFolder folder;
  const std::string content = good_stream();
  int unnoticed = 0;
  for (size_t i = 0; i < content.size(); ++i) {
    std::string damaged = content;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    if (error_of(folder, damaged).empty()) {
      ++unnoticed;
      expect_samples(read_file_stream(folder / "bad.stream"));
    }
  }
  EXPECT_EQ(unnoticed, 6);  // The tag of each frame's checksum.
}

/// Whatever byte of an episode's message is damaged: it is one record's damage, and the rest is read to the end.
TEST(StreamTest, DamageOfOneFrameIsOneRecords) {
  const TempFolder folder;
  const std::vector<Episode> episodes = sample_episodes();
  const std::string good = forge::frame(forge::kEpisode, forge::episode(1, episodes[2]));
  const std::string end = forge::frame(forge::kEnd, forge::end(2, 4));
  const std::string content = forge::episode(0, episodes[0]);
  std::string frame = forge::frame(forge::kEpisode, content);
  const size_t begin = frame.find(content);
  for (size_t i = 0; i < content.size(); ++i) {
    std::string damaged = frame;
    damaged[begin + i] = static_cast<char>(damaged[begin + i] ^ 0x01);
    std::filesystem::remove(folder / "one.stream");
    write(folder / "one.stream", good_header() + damaged + good + end);
    const Result result = read_file_stream(folder / "one.stream");
    ASSERT_EQ(result.damaged.size(), 1u) << "byte " << i << ": " << result.damaged.back();
    ASSERT_EQ(result.records.size(), 1u) << "byte " << i;
  }
  // Frames that are missing are still noticed.
  frame[begin] = static_cast<char>(frame[begin] ^ 0x01);
  std::filesystem::remove(folder / "one.stream");
  write(folder / "one.stream", good_header() + frame + end);
  const Result result = read_file_stream(folder / "one.stream");
  ASSERT_EQ(result.damaged.size(), 2u);
  expect_error(result.damaged[1], "0 of 0 and 0 were read beside 1 damaged frames");
}

TEST(StreamTest, WithoutChecksumsFlippedBytesNeverCrash) {
  const TempFolder folder;
  const std::string content = good_stream(false);
  for (size_t i = 0; i < content.size(); ++i) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      std::string damaged = content;
      damaged[i] = static_cast<char>(damaged[i] ^ mask);
      static_cast<void>(error_of(folder, damaged));
    }
  }
}

TEST(StreamTest, ErrorsNameFileRecordAndField) {
  const TempFolder folder;
  Episode episode = sample_episodes()[0];
  const auto with = [&](const Episode& bad) {
    return error_of(folder, good_header() + forge::frame(forge::kEpisode, forge::episode(0, bad)) +
                                forge::frame(forge::kEnd, forge::end(1, 3)));
  };
  episode.observation[0].continuous.pop_back();
  expect_error(with(episode), "bad.stream, record 0 at byte");
  expect_error(with(episode), "observation field 'velocity'");
  episode = sample_episodes()[0];
  episode.action[0].discrete[1] = 7;
  expect_error(with(episode), "action field 'button': value 7 at step 1");
  episode = sample_episodes()[0];
  episode.action.pop_back();
  expect_error(with(episode), "2 action columns, the task has 3 fields");
  episode = sample_episodes()[0];
  episode.observation[1].text[2] = "\xff";
  expect_error(with(episode), "invalid UTF-8");
  episode = sample_episodes()[0];
  std::swap(episode.observation[0], episode.observation[1]);
  expect_error(with(episode), "holds 'text', but the field is of modality continuous");
  episode = sample_episodes()[0];
  episode.reward.push_back(0);
  expect_error(with(episode), "4 rewards for 3 steps");
  episode = sample_episodes()[0];
  episode.observation[0].continuous[0] = NAN;
  expect_error(with(episode), "NaN");
}

TEST(StreamTest, RefusesWrongFrames) {
  const TempFolder folder;
  const std::string episode = forge::frame(forge::kEpisode, forge::episode(1, sample_episodes()[2]));
  const std::string end = forge::frame(forge::kEnd, forge::end(1, 1));
  EXPECT_EQ(error_of(folder, good_header() + episode + end), "");
  expect_error(error_of(folder, ""), "is empty");
  expect_error(error_of(folder, episode + end), "the first frame is no header");
  expect_error(error_of(folder, good_header() + good_header() + end), "a second header");
  expect_error(error_of(folder, good_header() + episode), "ends after 1 episodes without its end");
  expect_error(error_of(folder, good_header() + episode + end + episode), "frames follow behind the end");
  expect_error(error_of(folder, good_header() + episode + forge::frame(forge::kEnd, forge::end(2, 1))),
               "the end counts 2 episodes of 1 steps and 0 left out, but 1 of 1 and 0 were read");
  expect_error(error_of(folder, good_header() + forge::frame(forge::kEpisode, forge::episode(2, sample_episodes()[2]))),
               "task number 2, but the header has 2 tasks");
  expect_error(error_of(folder, forge::frame(forge::kHeader, forge::header({kMixed}, 2)) + end), "version 2");
  TaskSpec unbounded = kMixed;
  unbounded.action[1].low = unbounded.action[1].high = {};
  expect_error(error_of(folder, forge::frame(forge::kHeader, forge::header({unbounded})) + end), "needs bounds");
  const std::string two = forge::bytes(forge::kEpisode, "") + forge::bytes(forge::kEnd, "");
  expect_error(error_of(folder, good_header() + forge::varint(two.size()) + two + end), "two contents");
}

TEST(StreamTest, NoSizeIsBelievedBeforeItIsPaidFor) {
  const TempFolder folder;
  // A frame of 200 MiB in a file of a few bytes, one over the limit, one that is no varint.
  expect_error(error_of(folder, good_header() + forge::varint(uint64_t{200} << 20)),
               "but the file ends 0 bytes behind");
  expect_error(error_of(folder, good_header() + forge::varint(uint64_t{300} << 20)), "must be 1 to 268435456");
  expect_error(error_of(folder, good_header() + std::string(12, '\xff')), "not a varint");
  // 2^31 - 1 steps in a message of a few bytes.
  Episode episode = sample_episodes()[0];
  episode.num_steps = INT32_MAX;
  const std::string many = good_header() + forge::frame(forge::kEpisode, forge::episode(0, episode));
  expect_error(error_of(folder, many), "too few values");
  episode.num_steps = 0;
  expect_error(error_of(folder, good_header() + forge::frame(forge::kEpisode, forge::episode(0, episode))),
               "num_steps is 0");
}

TEST(StreamTest, RefusesWhatIsNoStream) {
  const TempFolder folder;
  EXPECT_THROW(static_cast<void>(stream_format(folder / "missing")), IoError);
  expect_error(error_of(folder, "episode,step,reward\n0,0,1.5\n0,1,2.5\n"), "stream");
  expect_error(error_of(folder, std::string(64, '\0')), "a size of 0 bytes");
}

TEST(StreamTest, ReadsTheStreamOfTheFirstVersion) {
  const Path fixture = Path(GATO_SOURCE_DIR) / "tests" / "episode" / "fixtures" / "import" / "v1.stream";
  const OpenedStream stream = stream_format(fixture);
  EXPECT_EQ(stream.info.name, "mine/all");
  const Result result = read_all(*stream.format);
  ASSERT_TRUE(result.damaged.empty()) << result.damaged.front();
  ASSERT_EQ(result.records.size(), 17u);
  const Episode& arm = result.records[3].episodes.at(0).episode;
  EXPECT_EQ(arm.id, "arm-3");
  EXPECT_EQ(arm.seed, 3u);
  EXPECT_EQ(arm.source_agent, "teacher");
  EXPECT_EQ(arm.num_steps, 15);
  EXPECT_EQ(arm.success, std::optional<bool>(false));
  EXPECT_TRUE(arm.truncated);
  for (size_t step = 0; step < 15; ++step) {
    const double angle = std::cos(static_cast<double>(step) / 7 + 3);
    EXPECT_EQ(arm.observation[0].continuous[2 * step], static_cast<float>(angle));
    EXPECT_EQ(arm.action[0].continuous[step], static_cast<float>(-angle));
    EXPECT_EQ(arm.reward[step], static_cast<float>(1 - std::abs(angle)));
    EXPECT_EQ(arm.observation[1].text[step], "goal 3");
    EXPECT_EQ(arm.action[1].discrete[step], static_cast<int32_t>(step % 2));
  }
  const Episode& picture = result.records[12].episodes.at(0).episode;
  EXPECT_EQ(picture.action[0].text[0], "a square of shade 102");
  const std::string& png = picture.observation[0].encoded.at(0);
  const Image image = decode_image(std::as_bytes(std::span(png)), "picture");
  EXPECT_EQ(image.pixels, std::vector<uint8_t>(8 * 8 * 3, 102));
  EXPECT_EQ(result.records[16].dropped, "no caption");
  EXPECT_EQ(stream.format->mapping().front(), "mine/arm observation/joint: continuous");
}

}  // namespace
}  // namespace gato::episode

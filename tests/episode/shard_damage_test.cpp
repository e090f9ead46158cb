#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "episode/forge.h"
#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "gato/episode/inspect.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using sample::dataset_info;
using sample::mixed_task;
using sample::random_episode;

/// A small shard with every kind of column, at `path` and as bytes. Written (and synced) once, then copied.
std::string small_shard(const Path& path) {
  static const std::string bytes = [] {
    const test::TempFolder folder("small");
    ShardWriter writer(folder / "small.gato", dataset_info(), {mixed_task(), sample::document_task()});
    writer.add(0, random_episode(mixed_task(), 1, 2, {.reward = true, .label = true}));
    writer.add(1, sample::document("doc/1", "A document."));
    writer.add(0, random_episode(mixed_task(), 2, 1));
    writer.finish();
    return sample::slurp(folder / "small.gato");
  }();
  sample::spill(path, bytes);
  return bytes;
}

/// Opens the file and reads all of it; the message of the first problem, or "".
std::string first_problem(const Path& path) {
  return sample::message_of<DataError>([&] {
    const ShardReader reader(path);
    const auto damages = reader.verify();
    if (!damages.empty()) throw DataError(damages[0].message);
    for (int64_t i = 0; i < static_cast<int64_t>(reader.index().size()); ++i) (void)reader.read(i);
  });
}

TEST(ShardDamageTest, EveryFlippedByteIsFoundAndNamed) {
  const test::TempFolder folder("damage");
  const Path path = folder / "a.gato";
  const std::string whole = small_shard(path);
  ASSERT_EQ(first_problem(path), "");
  for (size_t i = 0; i < whole.size(); ++i) {
    sample::poke(path, i, static_cast<char>(whole[i] ^ (1 << (i % 8))));
    const std::string message = first_problem(path);
    ASSERT_NE(message.find("a.gato, offset "), std::string::npos)
        << "byte " << i << " of " << whole.size() << ": " << message;
    const std::vector<std::string> found = verify_files(path);
    ASSERT_FALSE(found.empty()) << "byte " << i;
    ASSERT_NE(found[0].find("a.gato, offset "), std::string::npos) << found[0];
    sample::poke(path, i, whole[i]);
  }
  EXPECT_EQ(first_problem(path), "");
}

TEST(ShardDamageTest, EveryTruncationIsFoundAndNamed) {
  const test::TempFolder folder("damage");
  const Path path = folder / "a.gato";
  const std::string whole = small_shard(path);
  for (size_t length = whole.size(); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    const std::string message = first_problem(path);
    ASSERT_NE(message.find("a.gato, offset "), std::string::npos) << "cut to " << length << ": " << message;
    ASSERT_NE(message.find("truncated or was never finished"), std::string::npos)
        << "cut to " << length << ": " << message;
  }
  sample::spill(path, whole + "x");
  EXPECT_NE(first_problem(path).find("no end mark"), std::string::npos);
}

TEST(ShardDamageTest, OtherFilesAreNotShards) {
  const test::TempFolder folder("damage");
  sample::spill(folder / "a.gato", std::string(500, 'x'));
  EXPECT_NE(first_problem(folder / "a.gato").find("not a shard"), std::string::npos);
  EXPECT_THROW(ShardReader(folder / "missing.gato"), IoError);
  EXPECT_THROW(ShardReader(folder.path()), IoError);
  write_token_columns(folder / "b.tokens", {"digest", "fingerprint", {}});
  EXPECT_NE(first_problem(folder / "b.tokens").find("kind 2"), std::string::npos);
}

TEST(ShardDamageTest, NewerVersionsAreNamed) {
  const test::TempFolder folder("damage");
  std::string bytes = small_shard(folder / "a.gato");
  bytes[8] = 2;
  sample::spill(folder / "a.gato", bytes);
  EXPECT_NE(first_problem(folder / "a.gato").find("format version 2"), std::string::npos);
}

/// A shard of one continuous field that is several blocks long.
constexpr int64_t kLongSteps = 100000;
std::string long_shard(const Path& path) {
  TaskSpec task;
  task.id = "sample/long";
  task.observation = {sample::continuous_field("x", {}, 0, 1)};
  task.action = {sample::discrete_field("a", {}, 2)};
  Episode episode;
  episode.id = "long";
  episode.num_steps = kLongSteps;
  episode.observation.resize(1);
  episode.action.resize(1);
  for (int64_t i = 0; i < kLongSteps; ++i) episode.observation[0].continuous.push_back(static_cast<float>(i));
  episode.action[0].discrete.assign(kLongSteps, 1);
  ShardWriter writer(path, dataset_info(), {task});
  writer.add(0, episode);
  writer.finish();
  return sample::slurp(path);
}

TEST(ShardDamageTest, WindowsTouchTheirOwnBlocksOnly) {
  const test::TempFolder folder("damage");
  const Path path = folder / "a.gato";
  std::string bytes = long_shard(path);
  const size_t damaged_block = 3;
  bytes[damaged_block * 65536 + 1000] ^= 1;
  sample::spill(path, bytes);
  const ShardReader reader(path);
  const auto first = reader.continuous(0, Group::kObservation, 0, 0, 1000);
  EXPECT_EQ(first[999], 999.0f);
  const auto last = reader.continuous(0, Group::kObservation, 0, kLongSteps - 10, 10);
  EXPECT_EQ(last[9], static_cast<float>(kLongSteps - 1));
  EXPECT_EQ(reader.read(0, 5, 3).observation[0].continuous, (std::vector<float>{5, 6, 7}));
  // Twice: a damaged block is never taken for a verified one.
  for (int i = 0; i < 2; ++i) {
    const std::string message = sample::message_of<DataError>([&] { (void)reader.read(0); });
    EXPECT_NE(message.find(cat("offset ", damaged_block * 65536)), std::string::npos) << message;
  }
  const auto damages = reader.verify();
  ASSERT_EQ(damages.size(), 1u);
  EXPECT_EQ(damages[0].offset, damaged_block * 65536);
}

TEST(ShardDamageTest, VerifyListsEveryDamagedBlock) {
  const test::TempFolder folder("damage");
  const Path path = folder / "a.gato";
  std::string bytes = long_shard(path);
  for (const size_t block : {1u, 2u, 5u}) bytes[block * 65536] ^= 1;
  sample::spill(path, bytes);
  EXPECT_EQ(ShardReader(path).verify().size(), 3u);
  bytes[100] ^= 1;  // The index as well: the shard no longer opens, but all four are listed.
  sample::spill(path, bytes);
  EXPECT_THROW((void)ShardReader(path), DataError);
  EXPECT_EQ(verify_files(path).size(), 4u);
}

TEST(ShardDamageTest, ThreadsAgreeOnDamage) {
  const test::TempFolder folder("damage");
  const Path path = folder / "a.gato";
  std::string bytes = long_shard(path);
  bytes[3 * 65536] ^= 1;
  sample::spill(path, bytes);
  const ShardReader reader(path);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t first = 0; first + 500 <= kLongSteps; first += 500) {
        bool damaged = false;
        try {
          const auto rows = reader.continuous(0, Group::kObservation, 0, first, 500);
          if (rows[499] != static_cast<float>(first + 499)) ++wrong;
        } catch (const DataError&) {
          damaged = true;
        }
        const uint64_t data = reader.column_sizes()[2].offset;
        const bool expected = (data + 4 * first) / 65536 <= 3 && (data + 4 * (first + 500) - 1) / 65536 >= 3;
        if (damaged != expected) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

// ---- Files with right checksums and wrong content -------------------------------------------------------------------

// Numbers of the footer's fields (format.proto).
enum : uint32_t { kPayloadBytes = 1, kBlockBytes = 2, kBlockCrcs = 3, kColumns = 4, kShard = 5 };
enum : uint32_t {
  kRole = 1,
  kTask = 2,
  kField = 3,
  kType = 4,
  kRows = 5,
  kRowElements = 6,
  kDataOffset = 7,
  kDataBytes = 8,
  kTableOffset = 9
};
enum : uint32_t { kShardTasks = 5, kTaskObservation = 3 };

// Columns of small_shard in the order of the file.
enum : size_t { kIndex = 0, kIds = 1, kVelocity = 2, kMission = 3, kInventory = 6, kTorqueLabel = 11 };

uint64_t column_number(const forge::Parts& parts, size_t column, uint32_t number) {
  size_t i = 0;
  for (const forge::WireField& field : parts.footer) {
    if (field.number == kColumns && i++ == column) return forge::number_of(forge::parse(field.bytes), number);
  }
  throw std::runtime_error("no such column");
}

struct Forgery {
  const char* name;
  const char* expected;  // Part of the message.
  std::function<void(forge::Parts&)> make;
};

std::function<void(forge::Parts&)> column_edit(size_t column, uint32_t number, uint64_t value) {
  return [=](forge::Parts& parts) {
    forge::edit(parts.footer, kColumns, column, [=](forge::Message& message) { forge::set(message, number, value); });
  };
}

std::function<void(forge::Parts&)> column_removal(size_t column) {
  return [=](forge::Parts& parts) {
    size_t i = 0;
    std::erase_if(parts.footer,
                  [&](const forge::WireField& field) { return field.number == kColumns && i++ == column; });
  };
}

/// Overwrites a number inside the index entry `entry`, at `offset` of it.
template <class T>
std::function<void(forge::Parts&)> entry_edit(size_t entry, size_t offset, T value) {
  return [=](forge::Parts& parts) {
    forge::store<T>(parts.payload, column_number(parts, kIndex, kDataOffset) + entry * 48 + offset, value);
  };
}

class ShardForgeryTest : public testing::TestWithParam<Forgery> {};

TEST_P(ShardForgeryTest, IsRefused) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  forge::Parts parts = forge::take_apart(small_shard(path));
  GetParam().make(parts);
  sample::spill(path, forge::put_together(parts));
  const std::string message = first_problem(path);
  EXPECT_NE(message.find(GetParam().expected), std::string::npos) << "message: " << message;
  EXPECT_NE(message.find("a.gato"), std::string::npos) << "message: " << message;
}

constexpr uint64_t kHuge = ~uint64_t{0};
const std::vector<Forgery> kForgeries = {
    {"BlockSize", "blocks of 4096", [](forge::Parts& p) { forge::set(p.footer, kBlockBytes, 4096); }},
    {"NoShard", "does not describe a shard",
     [](forge::Parts& p) { std::erase_if(p.footer, [](const auto& field) { return field.number == kShard; }); }},
    {"FooterIsNoMessage", "not the protocol buffer",
     [](forge::Parts& p) {
       p.footer.push_back({4, 2, 0, "\xff\xff"});
     }},
    {"NoIndex", "'episode index' is missing", column_removal(kIndex)},
    {"NoIds", "'episode ids' is missing", column_removal(kIds)},
    {"ColumnTwice", "is there twice",
     [](forge::Parts& p) {
       p.footer.push_back(
           *std::find_if(p.footer.begin(), p.footer.end(), [](const auto& f) { return f.number == kColumns; }));
     }},
    {"NoRole", "has no role", column_edit(kVelocity, kRole, 0)},
    {"UnknownRole", "observation/velocity' is missing", column_edit(kVelocity, kRole, 99)},
    {"ColumnOfOtherTask", "belongs to task 9", column_edit(kVelocity, kTask, 9)},
    {"ColumnOfOtherField", "belongs to observation field 9", column_edit(kVelocity, kField, 9)},
    {"FieldMissing", "'sample/mixed observation/mission' is missing", column_removal(kMission)},
    {"OneLabelMissing", "'sample/mixed label/torque' is missing", column_removal(kTorqueLabel)},
    {"OtherType", "another type", column_edit(kVelocity, kType, 2)},
    {"UnknownType", "another type", column_edit(kVelocity, kType, 77)},
    {"FixedBecomesVariable", "another type", column_edit(kVelocity, kTableOffset, 64)},
    {"VariableBecomesFixed", "another type", column_edit(kMission, kTableOffset, 0)},
    {"OffsetOutside", "outside the file's columns", column_edit(kVelocity, kDataOffset, kHuge - 63)},
    {"OffsetInHeader", "outside the file's columns", column_edit(kVelocity, kDataOffset, 0)},
    {"OffsetUnaligned", "unaligned", column_edit(kVelocity, kDataOffset, 65)},
    {"Overlap", "two columns overlap",
     [](forge::Parts& p) { column_edit(kInventory, kDataOffset, column_number(p, kVelocity, kDataOffset))(p); }},
    {"BytesHuge", "outside the file's columns", column_edit(kVelocity, kDataBytes, kHuge)},
    {"RowsHuge", "which is not its size", column_edit(kVelocity, kRows, kHuge)},
    {"RowsOverflow", "which is not its size", column_edit(kVelocity, kRows, (kHuge / 24) + 2)},
    {"RowsFewer", "which is not its size", column_edit(kVelocity, kRows, 2)},
    {"NoRowElements", "which is not its size", column_edit(kVelocity, kRowElements, 0)},
    {"RowElementsOther", "rows of 3 elements",
     [](forge::Parts& p) {
       column_edit(kVelocity, kRowElements, 3)(p);
       column_edit(kVelocity, kRows, 6)(p);
     }},
    {"IdRowsHuge", "offset table", column_edit(kIds, kRows, kHuge)},
    {"IdRowsFewer", "episode ids for 3 episodes", column_edit(kIds, kRows, 2)},
    {"TextRowsFewer", "rows for 3 steps", column_edit(kMission, kRows, 2)},
    {"TableOutside", "offset table", column_edit(kMission, kTableOffset, kHuge - 63)},
    {"IndexFewer", "which is not its size", column_edit(kIndex, kRows, 2)},
    {"IndexInOneRow", "several entries",
     [](forge::Parts& p) {
       column_edit(kIndex, kRows, 1)(p);
       column_edit(kIndex, kRowElements, 3)(p);
       column_edit(kIds, kRows, 1)(p);
     }},
    {"EntryOfOtherTask", "has task 2", entry_edit<uint32_t>(0, 28, 2)},
    {"EntryOfOtherAgent", "has source agent 7", entry_edit<uint32_t>(0, 36, 7)},
    {"EntryWithoutSteps", "has 0 steps", entry_edit<uint32_t>(0, 24, 0)},
    {"EntryWithManySteps", "begins at step 2", entry_edit<uint32_t>(0, 24, 0x7fffffff)},
    {"EntryWithTooManySteps", "has 2147483648 steps", entry_edit<uint32_t>(0, 24, 0x80000000u)},
    {"LastEntryWithMoreSteps", "rows for 4 steps", entry_edit<uint32_t>(2, 24, 2)},
    {"EntryBeginsElsewhere", "begins at step 1", entry_edit<uint64_t>(0, 8, 1)},
    {"EntryWithUnknownFlags", "unknown flags", entry_edit<uint32_t>(0, 40, 64)},
    {"EntryWithReserved", "unknown flags", entry_edit<uint32_t>(0, 44, 1)},
    {"EntryWithNanReturn", "not finite", entry_edit<uint32_t>(0, 32, 0x7fc00000)},
    {"EntryWithLabelsOfNone", "has labels, its task has none", entry_edit<uint32_t>(1, 40, kEpisodeHasLabel)},
    {"EntryWithRewardsOfNone", "has rewards, its task has none", entry_edit<uint32_t>(1, 40, kEpisodeHasReward)},
    {"EntryWithOtherHash", "another split hash", entry_edit<uint64_t>(1, 0, 1)},
    {"TableFalls", "offset table is not rising",
     [](forge::Parts& p) { forge::store<uint64_t>(p.payload, column_number(p, kMission, kTableOffset) + 8, kHuge); }},
    {"TableStartsLate", "offset table is not rising",
     [](forge::Parts& p) { forge::store<uint64_t>(p.payload, column_number(p, kMission, kTableOffset), 1 << 20); }},
    {"TableEndsOutside", "points outside",
     [](forge::Parts& p) {
       forge::store<uint64_t>(p.payload, column_number(p, kMission, kTableOffset) + 24, 1 << 20);
     }},
    {"DiscreteTooLarge", "holds 1024",
     [](forge::Parts& p) { forge::store<uint16_t>(p.payload, column_number(p, kInventory, kDataOffset), 1024); }},
    {"BadTask", "not valid",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         forge::edit(shard, kShardTasks, 0,
                     [](forge::Message& task) { forge::set(task, 1, std::string("no domain")); });
       });
     }},
    {"BadModality", "unknown modality",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         forge::edit(shard, kShardTasks, 0, [](forge::Message& task) {
           forge::edit(task, kTaskObservation, 0, [](forge::Message& field) { forge::set(field, 2, 259); });
         });
       });
     }},
    {"HugeShape", "dimension",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         forge::edit(shard, kShardTasks, 0, [](forge::Message& task) {
           forge::edit(task, kTaskObservation, 0, [](forge::Message& field) { forge::set(field, 3, kHuge); });
         });
       });
     }},
    {"ManyFields", "more than 256 fields",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         forge::edit(shard, kShardTasks, 0, [](forge::Message& task) {
           task.insert(task.end(), 300, {kTaskObservation, 2, 0, ""});
         });
       });
     }},
    {"ManyTasks", "65537 tasks",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         shard.insert(shard.end(), 65535, {kShardTasks, 2, 0, ""});
       });
     }},
    {"DuplicateTask", "occurs twice",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) {
         for (size_t i = 0; i < shard.size(); ++i) {
           if (shard[i].number == kShardTasks) return shard.push_back(shard[i]);
         }
       });
     }},
    {"BadName", "data set name",
     [](forge::Parts& p) {
       forge::edit(p.footer, kShard, 0, [](forge::Message& shard) { forge::set(shard, 1, std::string("../../etc")); });
     }},
};

INSTANTIATE_TEST_SUITE_P(All, ShardForgeryTest, testing::ValuesIn(kForgeries),
                         [](const testing::TestParamInfo<Forgery>& forgery) {
                           return std::string(forgery.param.name);
                         });

TEST(ShardDamageTest, WrongNumbersOfChecksumsAreRefused) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  const forge::Parts good = forge::take_apart(small_shard(path));
  forge::Parts parts = good;
  forge::set(parts.footer, kBlockCrcs, std::string());
  sample::spill(path, forge::put_together(parts, true));
  EXPECT_NE(first_problem(path).find("checksums of 0 blocks"), std::string::npos);
  parts = good;
  forge::set(parts.footer, kPayloadBytes, kHuge);
  sample::spill(path, forge::put_together(parts, true));
  EXPECT_NE(first_problem(path).find("columns end at"), std::string::npos);
}

TEST(ShardDamageTest, TrailersThatPointOutsideAreRefused) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  const std::string whole = small_shard(path);
  for (const uint64_t footer_bytes : {kHuge, uint64_t{whole.size()}, uint64_t{whole.size() - 95}, uint64_t{1} << 24}) {
    std::string bytes = whole;
    const size_t trailer = bytes.size() - forge::kTrailerBytes;
    forge::store<uint64_t>(bytes, trailer, footer_bytes);
    forge::store<uint32_t>(bytes, trailer + 20, crc32c(std::string_view(bytes).substr(trailer, 20)));
    sample::spill(path, bytes);
    EXPECT_NE(first_problem(path).find("are possible"), std::string::npos)
        << footer_bytes << ": " << first_problem(path);
  }
}

TEST(ShardDamageTest, FieldsOfLaterVersionsArePassedOver) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  forge::Parts parts = forge::take_apart(small_shard(path));
  parts.footer.push_back({1000, 2, 0, "something new"});
  parts.footer.push_back({kColumns, 2, 0, forge::serialize({{kRole, 0, 99, ""}, {kTask, 0, 77, ""}})});
  forge::edit(parts.footer, kShard, 0, [](forge::Message& shard) { shard.push_back({1000, 0, 5, ""}); });
  sample::spill(path, forge::put_together(parts));
  EXPECT_EQ(first_problem(path), "");
}

TEST(ShardDamageTest, TextThatIsNotUtf8IsFoundWhenContentsAreVerified) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  ShardWriter writer(path, dataset_info(), {sample::document_task()});
  writer.add(0, sample::document("doc", "abc"));
  writer.finish();
  forge::Parts parts = forge::take_apart(sample::slurp(path));
  parts.payload[parts.payload.rfind("abc")] = '\xff';
  sample::spill(path, forge::put_together(parts));
  EXPECT_TRUE(verify_files(path).empty());
  const auto messages = verify_files(path, {.contents = true});
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("a.gato"), std::string::npos) << messages[0];
  EXPECT_NE(messages[0].find("invalid UTF-8 at step 0"), std::string::npos) << messages[0];
}

TEST(ShardDamageTest, PicturesThatDoNotDecodeNameTheirPlace) {
  const test::TempFolder folder("forgery");
  const Path path = folder / "a.gato";
  forge::Parts parts = forge::take_apart(small_shard(path));
  parts.payload[parts.payload.find("IHDR")] = 'J';
  sample::spill(path, forge::put_together(parts));
  const std::string message = first_problem(path);
  EXPECT_NE(message.find("a.gato, offset "), std::string::npos) << message;
  EXPECT_NE(message.find("column 'sample/mixed observation/camera', step 0"), std::string::npos) << message;
  const auto messages = verify_files(path, {.contents = true});
  ASSERT_EQ(messages.size(), 1u) << messages[0];
}

}  // namespace
}  // namespace gato::episode

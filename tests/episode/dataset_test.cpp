#include <gtest/gtest.h>

#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using sample::document;
using sample::document_task;

std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_documents(const Path& folder, int count, uint64_t shard_bytes) {
  DatasetWriter writer(folder, {"text/tiny", "", "", ""}, {document_task()}, shard_bytes);
  for (int i = 0; i < count; ++i) writer.add(0, document(cat("doc/", i), std::string(500, 'a')));
  writer.finish();
}

TEST(DatasetTest, WritesShardsOfAboutTheAskedSize) {
  const test::TempFolder folder("dataset");
  write_documents(folder / "new" / "text", 20, 2000);
  const std::vector<Path> shards = list_shards(folder / "new" / "text");
  ASSERT_EQ(shards.size(), 5u);
  EXPECT_EQ(shards[0].filename(), "text-tiny-00000.gato");
  EXPECT_EQ(shards[4].filename(), "text-tiny-00004.gato");
  int64_t episodes = 0;
  for (const Path& path : shards) {
    const ShardReader reader(path);
    EXPECT_EQ(reader.info().name, "text/tiny");
    for (int64_t i = 0; i < static_cast<int64_t>(reader.index().size()); ++i) {
      EXPECT_EQ(reader.episode_id(i), cat("doc/", episodes++));
    }
  }
  EXPECT_EQ(episodes, 20);
}

TEST(DatasetTest, ListsCommittedShardsOnly) {
  const test::TempFolder folder("dataset");
  DatasetWriter writer(folder.path(), {"text", "", "", ""}, {document_task()}, 1000);
  writer.add(0, document("1", std::string(2000, 'a')));
  writer.add(0, document("2", "short"));
  EXPECT_EQ(writer.shards(), (std::vector<Path>{folder / "text-00000.gato"}));
  EXPECT_EQ(list_shards(folder.path()), writer.shards());  // The second has a temporary file.
  EXPECT_GT(names_in(folder.path()).size(), 1u);
  writer.finish();
  EXPECT_EQ(writer.shards().size(), 2u);
  EXPECT_EQ(list_shards(folder.path()), writer.shards());
}

TEST(DatasetTest, AnUnfinishedWriterLeavesWholeShardsOnly) {
  const test::TempFolder folder("dataset");
  {
    DatasetWriter writer(folder.path(), {"text", "", "", ""}, {document_task()}, 1000);
    writer.add(0, document("1", std::string(2000, 'a')));
    writer.add(0, document("2", "short"));
  }
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"text-00000.gato"}));
}

TEST(DatasetTest, AnEmptyDataSetIsOneEmptyShard) {
  const test::TempFolder folder("dataset");
  write_documents(folder.path(), 0, 1000);
  const std::vector<Path> shards = list_shards(folder.path());
  ASSERT_EQ(shards.size(), 1u);
  EXPECT_TRUE(ShardReader(shards[0]).index().empty());
}

TEST(DatasetTest, AShorterVersionReplacesALongerOne) {
  const test::TempFolder folder("dataset");
  write_documents(folder.path(), 20, 2000);
  write_token_columns(token_columns_path(folder / "text-tiny-00003.gato"), {"digest", "fingerprint", {}});
  write_token_columns(token_columns_path(folder / "text-tiny-00000.gato"), {"digest", "fingerprint", {}});
  sample::spill(folder / "other-00003.gato", "not ours");
  write_documents(folder.path(), 5, 2000);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"other-00003.gato", "text-tiny-00000.gato",
                                                               "text-tiny-00000.gato.tokens", "text-tiny-00001.gato"}));
}

TEST(DatasetTest, RefusesMisuse) {
  const test::TempFolder folder("dataset");
  EXPECT_THROW(DatasetWriter(folder.path(), {"", "", "", ""}, {document_task()}), ConfigError);
  EXPECT_THROW(DatasetWriter(folder.path(), {"a", "", "", ""}, {}), ConfigError);
  EXPECT_THROW(DatasetWriter(folder.path(), {"a", "", "", ""}, {document_task()}, 0), ContractError);
  sample::spill(folder / "file", "");
  EXPECT_THROW(DatasetWriter(folder / "file", {"a", "", "", ""}, {document_task()}), IoError);
  DatasetWriter writer(folder.path(), {"a", "", "", ""}, {document_task()});
  writer.finish();
  EXPECT_THROW(writer.finish(), ContractError);
  EXPECT_THROW(writer.add(0, document("a", "b")), ContractError);
}

TEST(DatasetTest, FoldersWithoutShardsSayWhatToDo) {
  const test::TempFolder folder("dataset");
  sample::spill(folder / "notes.txt", "");
  sample::spill(folder / ".gato", "");
  sample::spill(folder / ".hidden.gato", "");
  std::filesystem::create_directory(folder / "folder.gato");
  for (const Path& path : {folder.path(), folder / "missing"}) {
    const std::string message = sample::message_of<ConfigError>([&] { (void)list_shards(path); });
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_NE(message.find("gato-data"), std::string::npos) << message;
  }
}

TEST(DatasetTest, AFileStandsForItself) {
  const test::TempFolder folder("dataset");
  sample::spill(folder / "a.gato", "");
  EXPECT_EQ(list_shards(folder / "a.gato"), (std::vector<Path>{folder / "a.gato"}));
}

}  // namespace
}  // namespace gato::episode

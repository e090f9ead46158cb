#include <gtest/gtest.h>

#include <thread>

#include "episode/forge.h"
#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "gato/episode/inspect.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

/// Two tasks; the second has no text, the first a text on both sides.
TokenColumns some_columns() {
  TokenColumns columns;
  columns.tokenizer_digest = "0123456789abcdef0123456789abcdef";
  columns.shard_fingerprint = "fedcba9876543210fedcba9876543210";
  columns.tasks.resize(3);
  columns.tasks[0] = {{Group::kObservation, 1, {0, 3, 3, 5}, {10, 11, 12, 31999, 7}},
                      {Group::kAction, 2, {0, 1, 2, 3}, {1, 2, 3}}};
  columns.tasks[2] = {{Group::kAction, 0, {0}, {}}};
  return columns;
}

std::vector<uint32_t> list(std::span<const uint32_t> tokens) { return {tokens.begin(), tokens.end()}; }

TEST(TokenColumnsTest, GiveBackWhatWasWritten) {
  const test::TempFolder folder("tokens");
  write_token_columns(folder / "a.gato.tokens", some_columns());
  const TokenColumnsReader reader(folder / "a.gato.tokens");
  EXPECT_EQ(reader.tokenizer_digest(), some_columns().tokenizer_digest);
  EXPECT_EQ(reader.shard_fingerprint(), some_columns().shard_fingerprint);
  EXPECT_EQ(list(reader.tokens(0, Group::kObservation, 1, 0)), (std::vector<uint32_t>{10, 11, 12}));
  EXPECT_TRUE(reader.tokens(0, Group::kObservation, 1, 1).empty());
  EXPECT_EQ(list(reader.tokens(0, Group::kObservation, 1, 2)), (std::vector<uint32_t>{31999, 7}));
  EXPECT_EQ(list(reader.tokens(0, Group::kAction, 2, 2)), (std::vector<uint32_t>{3}));
  const auto offsets = reader.offsets(0, Group::kObservation, 1, 1, 2);
  EXPECT_EQ(std::vector<uint64_t>(offsets.begin(), offsets.end()), (std::vector<uint64_t>{3, 3, 5}));
  EXPECT_EQ(reader.offsets(2, Group::kAction, 0, 0, 0).size(), 1u);
  ASSERT_EQ(reader.fields().size(), 3u);
  EXPECT_EQ(reader.fields()[0].num_steps, 3u);
  EXPECT_EQ(reader.fields()[0].num_tokens, 5u);
  EXPECT_EQ(reader.fields()[2].num_steps, 0u);
  EXPECT_TRUE(reader.verify().empty());
}

TEST(TokenColumnsTest, AbsentFieldsAreErrors) {
  const test::TempFolder folder("tokens");
  write_token_columns(folder / "a.gato.tokens", some_columns());
  const TokenColumnsReader reader(folder / "a.gato.tokens");
  for (const auto& [task, group, field] : std::vector<std::tuple<int, Group, int>>{{0, Group::kObservation, 0},
                                                                                   {0, Group::kObservation, 2},
                                                                                   {1, Group::kAction, 0},
                                                                                   {3, Group::kAction, 0},
                                                                                   {-1, Group::kAction, 0},
                                                                                   {0, Group::kAction, -1},
                                                                                   {0, Group::kLabel, 2}}) {
    const std::string message =
        sample::message_of<DataError>([&, t = task, g = group, f = field] { (void)reader.tokens(t, g, f, 0); });
    EXPECT_NE(message.find("no tokens for task"), std::string::npos) << message;
    EXPECT_NE(message.find("gato-data tokenize"), std::string::npos) << message;
  }
  EXPECT_THROW((void)reader.tokens(0, Group::kObservation, 1, 3), ContractError);
  EXPECT_THROW((void)reader.offsets(0, Group::kObservation, 1, 2, 2), ContractError);
}

TEST(TokenColumnsTest, WriterRefusesWrongTables) {
  const test::TempFolder folder("tokens");
  for (const std::vector<uint64_t>& offsets : {std::vector<uint64_t>{}, {1, 5}, {0, 4}, {0, 6, 5}}) {
    TokenColumns columns = some_columns();
    columns.tasks[0][0].offsets = offsets;
    EXPECT_THROW(write_token_columns(folder / "a.tokens", columns), ContractError);
  }
  TokenColumns columns = some_columns();
  columns.tasks[0][0].group = Group::kLabel;
  EXPECT_THROW(write_token_columns(folder / "a.tokens", columns), ContractError);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenColumnsTest, EveryFlippedByteIsFound) {
  const test::TempFolder folder("tokens");
  const Path path = folder / "a.tokens";
  write_token_columns(path, some_columns());
  const std::string whole = sample::slurp(path);
  for (size_t i = 0; i < whole.size(); ++i) {
    sample::poke(path, i, static_cast<char>(whole[i] ^ 0x10));
    const std::string message = sample::message_of<DataError>([&] {
      const TokenColumnsReader reader(path);
      const auto damages = reader.verify();
      if (!damages.empty()) throw DataError(damages[0].message);
    });
    ASSERT_NE(message.find("a.tokens, offset "), std::string::npos) << "byte " << i << ": " << message;
    sample::poke(path, i, whole[i]);
  }
}

TEST(TokenColumnsTest, EveryTruncationIsFound) {
  const test::TempFolder folder("tokens");
  const Path path = folder / "a.tokens";
  write_token_columns(path, some_columns());
  for (size_t length = std::filesystem::file_size(path); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    EXPECT_THROW(TokenColumnsReader{path}, DataError) << length;
  }
}

TEST(TokenColumnsTest, ForgedFootersAreRefused) {
  const test::TempFolder folder("tokens");
  const Path path = folder / "a.tokens";
  write_token_columns(path, some_columns());
  const forge::Parts good = forge::take_apart(sample::slurp(path));
  const auto message_with = [&](uint32_t number, uint64_t value) {
    forge::Parts parts = good;
    forge::edit(parts.footer, 4, 0, [&](forge::Message& column) { forge::set(column, number, value); });
    sample::spill(path, forge::put_together(parts));
    return sample::message_of<DataError>([&] { TokenColumnsReader{path}; });
  };
  EXPECT_NE(message_with(1, 5).find("which no token column can have"), std::string::npos);           // A label.
  EXPECT_NE(message_with(2, 0xffffffff).find("which no token column can have"), std::string::npos);  // Task.
  EXPECT_NE(message_with(3, 256).find("which no token column can have"), std::string::npos);         // Field.
  EXPECT_NE(message_with(4, 1).find("another type"), std::string::npos);
  EXPECT_NE(message_with(8, 19).find("no whole number"), std::string::npos);
  EXPECT_NE(message_with(5, ~uint64_t{0}).find("offset table"), std::string::npos);
  forge::Parts parts = good;
  parts.footer.push_back(parts.footer[static_cast<size_t>(
      std::find_if(parts.footer.begin(), parts.footer.end(), [](const auto& f) { return f.number == 4; }) -
      parts.footer.begin())]);
  sample::spill(path, forge::put_together(parts));
  EXPECT_NE(sample::message_of<DataError>([&] { TokenColumnsReader{path}; }).find("twice"), std::string::npos);
  parts = good;
  std::erase_if(parts.footer, [](const auto& field) { return field.number == 6; });
  sample::spill(path, forge::put_together(parts));
  EXPECT_NE(sample::message_of<DataError>([&] { TokenColumnsReader{path}; }).find("does not describe"),
            std::string::npos);
}

TEST(TokenColumnsTest, AreFoundBesideTheirShard) { EXPECT_EQ(token_columns_path("x/a.gato"), Path("x/a.gato.tokens")); }

TEST(TokenColumnsTest, ReaderMoves) {
  const test::TempFolder folder("tokens");
  write_token_columns(folder / "a.tokens", some_columns());
  TokenColumnsReader reader(folder / "a.tokens");
  const TokenColumnsReader other = std::move(reader);
  EXPECT_EQ(other.tokens(0, Group::kObservation, 1, 0).size(), 3u);
}

}  // namespace
}  // namespace gato::episode

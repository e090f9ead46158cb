#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "episode/import/csv_rows.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using test::TempFolder;

const Path kFixtures = Path(GATO_SOURCE_DIR) / "tests" / "episode" / "fixtures" / "import" / "csv";

constexpr std::string_view kMapping = R"(task: t/c
columns: {episode: id, reward: r, terminated: done, success: won, agent: who, seed: seed}
observation:
  o: {modality: continuous, columns: [x]}
action:
  a: {modality: discrete, columns: [a], num_values: 3}
)";
constexpr std::string_view kHeader = "id,x,a,r,done,won,who,seed\n";

void write(const Path& path, std::string_view content) {
  std::filesystem::remove(path);  // Some file systems flush a file that is written again.
  std::ofstream(path, std::ios::binary) << content;
}

std::vector<Episode> read_all(const ForeignFormat& format, size_t unit = 0) {
  std::vector<Episode> episodes;
  RawRecord record;
  const auto records = format.open(unit);
  while (records->next(record)) episodes.push_back(format.parse(record).episodes.at(0).episode);
  return episodes;
}

class CsvTest : public ::testing::Test {
 protected:
  std::vector<Episode> import(std::string_view table, std::string_view mapping = kMapping) {
    write(folder_ / "t.csv", table);
    write(folder_ / "m.yaml", mapping);
    return read_all(*csv_format({folder_ / "t.csv"}, folder_ / "m.yaml"));
  }
  std::string error_of(std::string_view table, std::string_view mapping = kMapping) {
    try {
      static_cast<void>(import(table, mapping));
    } catch (const DataError& error) {
      return error.what();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }
  void expect_error(const std::string& rows, const std::string& part) {
    const std::string message = error_of(std::string(kHeader) + rows);
    EXPECT_NE(message.find(part), std::string::npos) << "message: " << message << "\nexpected in it: " << part;
  }
  void expect_mapping_error(std::string_view mapping, const std::string& part) {
    const std::string message = error_of(kHeader, mapping);
    EXPECT_NE(message.find(part), std::string::npos) << "message: " << message << "\nexpected in it: " << part;
  }
  TempFolder folder_;
};

TEST_F(CsvTest, ReadsWhatPythonsCsvModuleWrote) {
  const auto format = csv_format({kFixtures / "steps.csv"}, kFixtures / "steps.yaml");
  const TaskSpec& task = format->tasks().at(0);
  EXPECT_EQ(task.id, "mine/pendulum");
  EXPECT_EQ(task.observation.at(2).low, (std::vector<float>{-1, -10}));
  const std::vector<std::string> notes = {"plain",      "with, comma",       "with \"quotes\"",
                                          "two\nlines", "r\xc3\xb6ter Ball", ""};
  const std::vector<Episode> episodes = read_all(*format);
  ASSERT_EQ(episodes.size(), 6u);
  for (size_t e = 0; e < 6; ++e) {
    const Episode& episode = episodes[e];
    EXPECT_EQ(episode.id, "run-" + std::to_string(e));
    EXPECT_EQ(episode.seed, 100 + e);
    EXPECT_EQ(episode.source_agent, e % 2 == 0 ? "teacher" : "student");
    EXPECT_EQ(episode.terminated, e % 2 == 0);
    EXPECT_EQ(episode.truncated, e % 2 == 1);
    EXPECT_EQ(episode.success, e == 5 ? std::nullopt : std::optional<bool>(e > 2));
    ASSERT_EQ(episode.num_steps, static_cast<int64_t>(5 + e));
    for (size_t step = 0; step < 5 + e; ++step) {
      const double angle = std::sin(static_cast<double>(e) + static_cast<double>(step) / 3);
      EXPECT_EQ(episode.observation[0].encoded[step].substr(1, 3), "PNG");
      EXPECT_EQ(episode.observation[1].text[step], notes[(e + step) % 6]);
      EXPECT_EQ(episode.observation[2].continuous[2 * step], static_cast<float>(angle));
      EXPECT_EQ(episode.action[0].discrete[step], static_cast<int32_t>(step % 2));
      EXPECT_EQ(episode.label[0].discrete[step], static_cast<int32_t>(step % 2));
      EXPECT_EQ(episode.action[1].continuous[step], static_cast<float>(-angle / 2));
      EXPECT_EQ(episode.label[1].continuous[step], static_cast<float>(-angle));
      EXPECT_EQ(episode.reward[step], static_cast<float>(1 - angle * angle));
    }
  }
}

TEST_F(CsvTest, SaysWhatBecameWhatAndWhatIsNotUsed) {
  const auto format = csv_format({kFixtures / "steps.csv"}, kFixtures / "steps.yaml");
  std::string lines;
  for (const std::string& line : format->mapping()) lines += line + "\n";
  EXPECT_NE(lines.find("angle, speed -> observation `state`: continuous, bounds for each element in rad, rad/s\n"),
            std::string::npos)
      << lines;
  EXPECT_NE(lines.find("best torque -> the expert's label of action `torque`"), std::string::npos) << lines;
  EXPECT_NE(lines.find("run -> episode\n"), std::string::npos) << lines;
  EXPECT_NE(lines.find("t: not used\n"), std::string::npos) << lines;
  EXPECT_NE(lines.find("gear -> action `gear`: discrete, low = 0, high = 1\n"), std::string::npos) << lines;
}

/// What an interrupted import goes on with is told by the mapping's lines: they must show the words' order.
TEST_F(CsvTest, TheMappingShowsWhatWordsMean) {
  const auto lines = [&](std::string_view words) {
    std::string mapping(kMapping);
    mapping.replace(mapping.find("num_values: 3"), 13, cat("values: ", words));
    write(folder_ / "t.csv", kHeader);
    write(folder_ / "m.yaml", mapping);
    return csv_format({folder_ / "t.csv"}, folder_ / "m.yaml")->mapping();
  };
  EXPECT_NE(lines("[left, right]"), lines("[right, left]"));
}

TEST_F(CsvTest, ReadsCrlfByteOrderMarkBlankLinesAndNoLastLineEnd) {
  const auto episodes = import(
      "\xef\xbb\xbfid,x,a,r,done,won,who,seed\r\n\r\na, 1.5 ,2,+0.25,FALSE,,me,7\r\n"
      "a,-2e-3,0,1,true,1,me,7\r\n\r\n\"b\",inf,\"1\",0,0,0,me,0");
  ASSERT_EQ(episodes.size(), 2u);
  EXPECT_EQ(episodes[0].observation[0].continuous, (std::vector<float>{1.5f, -2e-3f}));
  EXPECT_EQ(episodes[0].action[0].discrete, (std::vector<int32_t>{2, 0}));
  EXPECT_EQ(episodes[0].reward, (std::vector<float>{0.25f, 1.0f}));
  EXPECT_TRUE(episodes[0].terminated);
  EXPECT_EQ(episodes[0].success, std::optional<bool>(true));
  EXPECT_EQ(episodes[1].id, "b");
  EXPECT_EQ(episodes[1].observation[0].continuous[0], INFINITY);
  EXPECT_TRUE(import(kHeader).empty());
}

TEST_F(CsvTest, ErrorsNameFileLineAndColumn) {
  expect_error("a,1,0,0,0,,me,0\na,x,0,0,0,,me,0\n", "t.csv, line 3, column 2 (x): 'x' is not a number");
  expect_error("a,nan,0,0,0,,me,0\n", "line 2, column 2 (x): NaN");
  expect_error("a,1e39,0,0,0,,me,0\n", "out of range for a 32-bit number");
  expect_error("a,1e999,0,0,0,,me,0\n", "out of range");
  expect_error("a,,0,0,0,,me,0\n", "column 2 (x): empty");
  expect_error("a,1,3,0,0,,me,0\n", "column 3 (a): 3 is outside [0, 3) of field 'a'");
  expect_error("a,1,1.0,0,0,,me,0\n", "'1.0' is not a whole number");
  expect_error("a,1,0,0,maybe,,me,0\n", "column 5 (done): 'maybe' is neither true");
  expect_error("a,1,0,0,1,,me,0\na,1,0,0,0,,me,0\n", "line 2, column 5 (done): true, but the episode goes on");
  expect_error("a,1,0,0,0,,me,-1\n", "column 8 (seed): '-1' is not a seed");
  expect_error("a,1,0,0,0,,me,0\na,1,0,0,0,,you,0\n", "line 3, column 7 (who): 'you', but 'me'");
  expect_error(",1,0,0,0,,me,0\n", "line 2, column 1: no episode id");
  expect_error("a,1,0,0,0,,me\n", "line 2: 7 cells, but the first row names 8 columns");
  expect_error("a,1,0,inf,0,,me,0\n", "reward at step 0 is not finite");
  expect_error("a,1,0,0,0,,me,0\nb,1,0,0,0,,me,0\na,1,0,0,0,,me,0\n", "line 4, column 1: episode 'a' comes back");
}

TEST_F(CsvTest, RefusesBadQuotes) {
  expect_error("a,\"1,0,0,0,,me,0\nb,1,0,0,0,,me,0\n", "line 2: a quote is not closed");
  expect_error("a,\"1\"2,0,0,0,,me,0\n", "line 2, column 2: text behind a closing quote");
  expect_error("a,1\"2\",0,0,0,,me,0\n", "line 2, column 2: a quote inside a cell");
  expect_error("a,1\r2,0,0,0,,me,0\n", "carriage return inside a cell");
  EXPECT_NE(error_of(std::string_view("id\0,x", 5)).find("NUL"), std::string::npos);
  EXPECT_NE(error_of("").find("is empty"), std::string::npos);
  EXPECT_NE(error_of("id,id,x,a,r,done,won,who,seed\n").find("'id' occurs twice"), std::string::npos);
}

TEST_F(CsvTest, RefusesMappingsThatMakeNoTask) {
  const std::string rest = "columns: {episode: id}\n";
  expect_mapping_error(rest, "task");
  expect_mapping_error(rest, "names no field");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: continuous, columns: [x]}}\n", "needs bounds");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: discrete, columns: [x]}}\n", "never guessed");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: text, columns: [x, a]}}\n", "the one column");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: text, columns: [whoo]}}\n",
                       "names column 'whoo', but");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: text, columns: [whoo]}}\n", "did you mean 'who'");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: text, colums: [who]}}\n", "colums");
  expect_mapping_error("task: t/c\ncolumns: {reward: r}\naction: {a: {modality: text, columns: [who]}}\n", "episode");
  expect_mapping_error("task: t/c\n" + rest + "action: {a: {modality: text, columns: [who]}}\nobservation:\n" +
                           "  o: {modality: continuous, columns: [x, r], shape: [3]}\n",
                       "has 3 elements, but there are 2 columns");
}

TEST_F(CsvTest, SeveralTablesPutTheirNamesIntoTheIds) {
  const std::string row = "a,1,0,0,0,,me,0\n";
  write(folder_ / "1.csv", std::string(kHeader) + row);
  write(folder_ / "2.csv", std::string(kHeader) + row);
  write(folder_ / "other.csv", "id,x,a\n");
  write(folder_ / "m.yaml", kMapping);
  const auto format = csv_format({folder_ / "1.csv", folder_ / "2.csv"}, folder_ / "m.yaml");
  ASSERT_EQ(format->units().size(), 2u);
  EXPECT_EQ(read_all(*format, 0).at(0).id, "1.csv/a");
  EXPECT_EQ(read_all(*format, 1).at(0).id, "2.csv/a");
  EXPECT_THROW(static_cast<void>(csv_format({folder_ / "1.csv", folder_ / "other.csv"}, folder_ / "m.yaml")),
               DataError);
  EXPECT_THROW(static_cast<void>(csv_format({folder_ / "1.csv", folder_ / "1.csv"}, folder_ / "m.yaml")), ConfigError);
  EXPECT_THROW(static_cast<void>(csv_format({folder_ / "missing.csv"}, folder_ / "m.yaml")), IoError);
}

TEST_F(CsvTest, PicturesMustLieBesideTheTable) {
  const std::string mapping =
      "task: t/p\ncolumns: {episode: id}\nobservation: {p: {modality: image, columns: [file], shape: [0, 0, 3]}}\n"
      "action: {t: {modality: text, columns: [text]}}\n";
  std::filesystem::create_directory(folder_ / "sub");
  std::filesystem::copy_file(kFixtures / "shade-0.png", folder_ / "sub" / "a.png");
  EXPECT_EQ(import("id,file,text\n1,sub/a.png,grey\n", mapping).at(0).observation[0].encoded.size(), 1u);
  for (const std::string name : {"../a.png", "/etc/passwd", "sub/../../a.png", "missing.png", "", "sub"}) {
    const std::string message = error_of("id,file,text\n1," + name + ",grey\n", mapping);
    EXPECT_NE(message.find("line 2, column 2 (file)"), std::string::npos) << name << ": " << message;
  }
  std::filesystem::create_symlink("/etc/passwd", folder_ / "sub" / "link.png");
  EXPECT_NE(error_of("id,file,text\n1,sub/link.png,grey\n", mapping).find("is no file in the table's folder"),
            std::string::npos);
}

TEST_F(CsvTest, TruncatedAndChangedTablesNeverCrash) {
  const std::string table = read_file(kFixtures / "steps.csv").substr(0, 450);
  const std::string mapping = read_file(kFixtures / "steps.yaml");
  for (int shade = 0; shade < 2; ++shade) {
    const std::string name = "shade-" + std::to_string(shade) + ".png";
    std::filesystem::copy_file(kFixtures / name, folder_ / name);
  }
  for (size_t size = 0; size < table.size(); ++size) static_cast<void>(error_of(table.substr(0, size), mapping));
  for (size_t i = 0; i < table.size(); ++i) {
    for (const char byte : {'"', ',', '\n', '\0', '\xff'}) {
      std::string changed = table;
      changed[i] = byte;
      static_cast<void>(error_of(changed, mapping));
    }
  }
}

TEST_F(CsvTest, ARowOfAnyLengthTakesNoMoreThanTheLimit) {
  write(folder_ / "long.csv", std::string(CsvRows::kMaxRowBytes + 1, 'x'));
  CsvRows rows(file_input(folder_ / "long.csv"), "long.csv");
  std::string row;
  EXPECT_THROW(rows.next(row), DataError);
}

}  // namespace
}  // namespace gato::episode

#include "gato/env/suite.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "env/text_corpus.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/env/environment.h"
#include "support/temp_folder.h"

namespace gato::env {
namespace {

/// Sets an environment variable until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

std::string error_of(const std::string& yaml) {
  gato::test::TempFolder folder("suite");
  write_file_atomic(folder / "bad.yaml", yaml);
  try {
    static_cast<void>(load_suite((folder / "bad.yaml").string()));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(SuiteTest, TheDemoIsAsPlanned) {
  const Suite suite = load_suite("demo");
  EXPECT_EQ(suite.name, "demo");
  const auto tasks = resolve_tasks(suite);
  EXPECT_EQ(tasks.at("control/reacher").episodes, 300);
  EXPECT_EQ(tasks.at("control/point_mass").episodes, 200);
  for (const char* id : {"pictures/caption_heldout", "pictures/question_heldout"}) {
    EXPECT_EQ(tasks.at(id).episodes, 0) << "held-out pictures must never be recorded";
    EXPECT_EQ(tasks.at(id).rollouts, 50);
  }
  for (const auto& [id, task] : tasks) EXPECT_EQ(task.rollouts, 50) << id;
  ASSERT_EQ(suite.texts.size(), 1u);
  EXPECT_EQ(suite.texts[0].name, "text/kjv");
  for (const Path& file : corpus_files(suite.texts[0])) EXPECT_TRUE(std::filesystem::exists(file)) << file;
}

TEST(SuiteTest, EverySuiteNamesTasksThatAreThere) {
  for (const auto& file : std::filesystem::directory_iterator(Path(GATO_SOURCE_DIR) / "configs" / "suites")) {
    const Suite suite = load_suite(file.path().string());
    EXPECT_EQ(suite.name, file.path().stem()) << file.path();
    EXPECT_FALSE(resolve_tasks(suite).empty()) << file.path();
  }
}

TEST(SuiteTest, TheSuiteOfTheResultsIsAsAnnounced) {
  const auto tasks = resolve_tasks(load_suite("results"));
  std::map<std::string, int> by_domain;
  for (const auto& [id, task] : tasks) {
    EXPECT_EQ(task.rollouts, 50) << id;
    EXPECT_TRUE(find_task(id).make_expert) << id;
    ++by_domain[id.substr(0, id.find('/'))];
  }
  const std::map<std::string, int> announced = {{"babyai", 23},   {"control", 4},    {"game", 1},    {"grid", 5},
                                                {"gymnasium", 8}, {"metaworld", 50}, {"pictures", 4}};
  EXPECT_EQ(by_domain, announced);
}

TEST(SuiteTest, LaterEntriesWin) {
  Suite suite;
  suite.tasks = {{.pattern = "grid/*", .episodes = 5, .rollouts = 7}, {.pattern = "grid/pick_up", .episodes = 9}};
  const auto tasks = resolve_tasks(suite);
  ASSERT_EQ(tasks.size(), 5u);
  EXPECT_EQ(tasks.at("grid/go_to").episodes, 5);
  EXPECT_EQ(tasks.at("grid/go_to").rollouts, 7);
  EXPECT_EQ(tasks.at("grid/pick_up").episodes, 9);
  EXPECT_EQ(tasks.at("grid/pick_up").rollouts, 50) << "the whole entry counts";
}

TEST(SuiteTest, NamesWhatIsWrong) {
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', noise: [0, 1.5]}]").find("tasks[0].noise"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', noise: []}]").find("noise"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', episodes: -1}]").find("tasks[0].episodes"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', rollouts: 1e30}]").find("rollouts"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', temperature: 0}]").find("temperature"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', decoding: wild}]").find("greedy"), std::string::npos);
  EXPECT_NE(error_of("tasks: [{pattern: 'grid/*', episode: 3}]").find("episodes"), std::string::npos);
  EXPECT_NE(error_of("texts: [{name: kjv, files: [a], licence: x}]").find("domain/name"), std::string::npos);
  EXPECT_NE(error_of("texts: [{name: a/b, files: [a]}]").find("licence"), std::string::npos);
  EXPECT_NE(error_of("texts: [{name: a/b, files: [a], licence: x}, {name: a/b, files: [b], licence: x}]").find("twice"),
            std::string::npos);
  EXPECT_NE(error_of("name: empty").find("tasks or texts"), std::string::npos);
  EXPECT_NE(error_of("[1, 2]").find("map"), std::string::npos);
}

TEST(SuiteTest, APatternThatMatchesNothingNamesTheNearestTask) {
  Suite suite;
  suite.tasks = {{.pattern = "grid/goto"}};
  try {
    static_cast<void>(resolve_tasks(suite));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("grid/go_to"), std::string::npos);
  }
}

TEST(SuiteTest, AnUnknownNameListsPlacesAndSuites) {
  try {
    static_cast<void>(load_suite("dem"));
    FAIL();
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("configs/suites/dem.yaml"), std::string::npos) << message;
    EXPECT_NE(message.find("Known suites: "), std::string::npos) << message;
    EXPECT_NE(message.find("Did you mean 'demo'?"), std::string::npos) << message;
  }
  EXPECT_THROW(static_cast<void>(load_suite("/no/such/file.yaml")), Error);
}

TEST(SuiteTest, AFileNamesItselfWhenItHasNoName) {
  gato::test::TempFolder folder("suite");
  write_file_atomic(folder / "mine.yaml", "tasks: [{pattern: game/catch}]\n");
  EXPECT_EQ(load_suite((folder / "mine.yaml").string()).name, "mine");
}

TEST(DataRootTest, TheVariableWinsAndIsChecked) {
  EXPECT_EQ(data_root(), std::filesystem::canonical(GATO_SOURCE_DIR).string());
  gato::test::TempFolder folder("root");
  {
    const ScopedVariable root("GATO_ROOT", folder.path().string());
    EXPECT_THROW(static_cast<void>(data_root()), ConfigError);
    make_folders(folder / "configs" / "suites");
    make_folders(folder / "data");
    EXPECT_EQ(data_root(), folder.path().string());
    write_file_atomic(folder / "configs" / "suites" / "own.yaml", "tasks: [{pattern: game/catch}]\n");
    EXPECT_EQ(load_suite("own").tasks.size(), 1u);
  }
}

TEST(TextCorpusTest, CutsAtTheSeparator) {
  gato::test::TempFolder folder("text");
  const Path file = folder / "text.txt";
  write_file_atomic(file, "\n%\none\nline 2\n%\n\n%\r\n two % 3 \n%%\n%");
  EXPECT_EQ(read_documents(file, "%"), (std::vector<std::string>{"one\nline 2", "two % 3 \n%%"}));
  EXPECT_EQ(read_documents(file, "").size(), 1u) << "no separator: a whole file";
}

TEST(TextCorpusTest, RefusesWhatIsNoText) {
  gato::test::TempFolder folder("text");
  write_file_atomic(folder / "bytes.txt", "good\nb\xff");
  try {
    static_cast<void>(read_documents(folder / "bytes.txt", "%"));
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("byte 6"), std::string::npos) << error.what();
  }
  write_file_atomic(folder / "empty.txt", "%\n%\n");
  EXPECT_THROW(static_cast<void>(read_documents(folder / "empty.txt", "%")), ConfigError);
  EXPECT_THROW(static_cast<void>(read_documents(folder / "missing.txt", "%")), IoError);
}

TEST(TextCorpusTest, TheShippedTextIsWhole) {
  const auto documents = read_documents(Path(data_root()) / "data" / "text" / "kjv.txt", "%");
  EXPECT_EQ(documents.size(), 352u);
  EXPECT_EQ(documents.front().substr(0, 34), "Genesis 1\nIn the beginning God cre");
  EXPECT_EQ(documents.back().substr(0, 7), "Acts 28");
}

}  // namespace
}  // namespace gato::env

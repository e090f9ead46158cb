#include "gato/eval/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "eval/film.h"
#include "eval/html.h"
#include "gato/core/error.h"
#include "gato/run/evaluation_queue.h"
#include "support/temp_folder.h"
#include "synthetic_run.h"

namespace gato::eval {
namespace {

using testing::make_synthetic_run;
using testing::SyntheticRun;

/// Values of every attribute `name` of a page.
std::vector<std::string> attributes(const std::string& page, const std::string& name) {
  std::vector<std::string> values;
  const std::string begin = " " + name + "='";
  for (size_t at = page.find(begin); at != std::string::npos; at = page.find(begin, at)) {
    at += begin.size();
    values.push_back(page.substr(at, page.find('\'', at) - at));
  }
  return values;
}

/// What is wrong with the tags of a page, as a strict reader sees them; "" when all are closed in order, with nothing
/// but known elements and attributes in them: text that was not escaped would make others.
std::string fault_of(const std::string& page) {
  static const std::set<std::string> kVoid = {"!doctype", "meta", "img", "br", "source", "input"};
  static const std::set<std::string> kRisky = {"onerror", "onclick", "onload", "onmouseover", "style"};
  std::vector<std::string> open;
  size_t at = 0;
  while ((at = page.find('<', at)) != std::string::npos) {
    const size_t end = [&] {
      char quote = 0;
      for (size_t i = at; i < page.size(); ++i) {
        if (quote == 0 && page[i] == '>') return i;
        if (quote != 0 && page[i] == quote) {
          quote = 0;
        } else if (quote == 0 && (page[i] == '\'' || page[i] == '"')) {
          quote = page[i];
        }
      }
      return page.size();
    }();
    if (end == page.size()) return "a tag has no end: " + page.substr(at, 80);
    const std::string tag = page.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    at = end + 1;
    for (const std::string& risky : kRisky) {
      if (tag.find(" " + risky + "=") != std::string::npos) return "attribute in <" + tag + ">";
    }
    if (name.front() == '/') {
      if (open.empty() || "/" + open.back() != name) return "<" + tag + "> closes " + (open.empty() ? "" : open.back());
      open.pop_back();
    } else if (!kVoid.contains(name) && tag.back() != '/') {
      open.push_back(name);
      if (name == "script" || name == "style") at = page.find("</" + name, at);
    }
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

/// No program is found while it lives: films of many pictures take long.
class NoPrograms {
 public:
  NoPrograms() { ::setenv("PATH", "/nonexistent", 1); }
  NoPrograms(const NoPrograms&) = delete;
  NoPrograms& operator=(const NoPrograms&) = delete;
  ~NoPrograms() { ::setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_ = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
};

TEST(ReportTest, SixHundredTasksAreFoundAndTheirPicturesLoadedAsTheyAreSeen) {
  const gato::test::TempFolder temp;
  const NoPrograms no_films;
  // To look at it: GATO_TEST_REPORT names a new folder that stays.
  const char* kept = std::getenv("GATO_TEST_REPORT");
  SyntheticRun size;
  if (kept == nullptr) size.shown_per_domain = 1, size.checkpoints = 2, size.frames = 3, size.frame_side = 32;
  const run::RunFolder run = make_synthetic_run(kept != nullptr ? Path(kept) : temp / "large-run", size);
  const std::string index = read_file(write_report(run.root()));
  const Path folder = run.report_path().parent_path();

  EXPECT_EQ(fault_of(index), "");
  EXPECT_LT(index.size(), 1500000u) << "numbers of 600 tasks, no pictures";
  EXPECT_EQ(count(index, "<tr data-domain="), 600u);
  EXPECT_EQ(index.find("data:image"), std::string::npos);
  EXPECT_NE(index.find("mean over domains"), std::string::npos);
  EXPECT_NE(index.find("the expert is not better than random"), std::string::npos) << "tasks without a score say why";
  EXPECT_NE(index.find("3 of 20 rollouts failed by the environment"), std::string::npos);
  EXPECT_NE(index.find("Tasks at or above a score"), std::string::npos);

  std::set<std::string> pages;
  for (const std::string& address : attributes(index, "href")) {
    if (address.front() != '#') pages.insert(address.substr(0, address.find('#')));
  }
  EXPECT_EQ(pages.size(), 12u) << "a page per domain";
  size_t pictures = 0;
  for (const std::string& name : pages) {
    ASSERT_TRUE(std::filesystem::exists(folder / name)) << name;
    const std::string page = read_file(folder / name);
    EXPECT_EQ(fault_of(page), "") << name;
    EXPECT_EQ(count(page, "<article "), 50u);
    EXPECT_EQ(count(page, "<img "), count(page, "<img loading='lazy' "));
    for (const std::string& source : attributes(page, "src")) {
      EXPECT_TRUE(std::filesystem::exists(folder / source)) << source;
      ++pictures;
    }
  }
  EXPECT_EQ(pictures, static_cast<size_t>(size.domains * size.shown_per_domain * 3));
}

TEST(ReportTest, LinksOfTheTableLeadToTheTask) {
  const gato::test::TempFolder temp;
  const run::RunFolder run = make_synthetic_run(temp.path(), {2, 3, 1, 3, 16, 2});
  const std::string index = read_file(write_report(run.root()));
  EXPECT_EQ(fault_of(index), "");
  EXPECT_EQ(count(index, "data:image/gif"), 18u) << "few pictures: all in one page";
  EXPECT_EQ(index.find("<div class='find'"), std::string::npos) << "few tasks: nothing to search";
  const auto ids = attributes(index, "id");
  for (const std::string& address : attributes(index, "href")) {
    ASSERT_EQ(address.front(), '#') << address;
    EXPECT_NE(std::find(ids.begin(), ids.end(), address.substr(1)), ids.end()) << address;
  }
  EXPECT_FALSE(std::filesystem::exists(run.report_path().parent_path() / "media"));
}

constexpr const char* kHostile = "</td><script>alert(1)</script><img src=x onerror='alert(2)'>\"'&\xff";

TEST(ReportTest, WhatFilesHoldNeverBecomesMarkup) {
  const gato::test::TempFolder temp;
  run::RunFolder folder(temp / "<b>run&'");
  folder.create();
  folder.write_config(cat("# ", "</pre><script>alert(3)</script>\n"));
  run::TaskResult answers = testing::synthetic_result("hostile/'><script>alert(0)</script>", 0, 1000, 0.5);
  answers.scoring = run::TaskScoring::kExactMatch;
  for (run::RolloutRecord& rollout : answers.rollouts) rollout.exact_match = false;
  run::TaskResult text = testing::synthetic_result("<i>/text", 1, 1000, 0.5);
  text.scoring = run::TaskScoring::kLoss;
  text.loss = run::TextLoss{1, 10, 2};
  text.rollouts.clear();
  const run::TaskResult played = testing::synthetic_result("x\"y'<z>/&b", 2, 1000, 0.5);
  const Path results = folder.results_path(1000, "large");
  run::Summary summary = run::summarise({answers, text, played});
  summary.tasks.at(played.task).note = kHostile;
  summary.checkpoint = "<u>";
  run::write_summary(results, summary);
  for (const run::TaskResult& result : {answers, text, played}) {
    MediaItem item;
    item.task = result.task;
    item.kind = result.scoring == run::TaskScoring::kReturn ? "first" : "";
    item.question = item.answer = item.reference = kHostile;
    write_frames(results, 0, 0, testing::wandering_ball(2, 16, 1), item);
    write_media(results, result.task, 0, {item});
  }
  run::EvaluationQueue queue(folder.root());
  run::JobBatch batch;
  batch.checkpoint = "step-00001000";
  batch.step = 1000;
  batch.suite = "large";
  batch.settings.max_attempts = 1;
  batch.jobs = {{{{{.task = played.task, .rollouts = 3}, 0, 0, 1}}}};
  ASSERT_TRUE(queue.enqueue(batch));
  run::QueuedBatch& queued = *queue.open_batches().at(0);
  ASSERT_TRUE(queued.add(0, {run::JobEventKind::kClaimed, "w", "", 1}));
  ASSERT_TRUE(queued.add(0, {run::JobEventKind::kFailed, "w", "</td><script>alert(4)</script>", 2}));

  const std::string page = read_file(write_report(folder.root()));
  EXPECT_EQ(fault_of(page), "");
  EXPECT_EQ(count(page, "<script>"), 1u) << "the page's own";
  EXPECT_EQ(page.find("<img src=x"), std::string::npos);
  EXPECT_TRUE(is_valid_utf8(page));
  for (const char* part : {"alert(0)", "alert(1)", "alert(3)", "alert(4)", "1 failed", "hostile/"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
}

TEST(ReportTest, PicturesThatAreThereStayAndOthersGo) {
  const gato::test::TempFolder temp;
  const NoPrograms no_films;
  SyntheticRun size{2, 2, 1, 2, 16, 2};
  const run::RunFolder run = make_synthetic_run(temp.path(), size);
  const Path media = run.results_path(1000, "large") / "media";
  // Ballast makes the pictures many: then they are files.
  const std::string png = episode::encode_png(testing::wandering_ball(1, 16, 1)[0]);
  const auto grow = [&](const Path& file) {
    std::string bytes = read_file(file);
    bytes.resize(uint64_t{2} << 20, '\0');
    write_file_atomic(file, bytes);
  };
  for (const char* name : {"domain-0-task-0.shard-0-0.png", "domain-0-task-0.shard-0-1.png",
                           "domain-1-task-1.shard-0-2.png", "domain-1-task-1.shard-0-1.png"}) {
    grow(media / name);
  }
  const Path report = write_report(run.root()).parent_path();
  Path made;
  for (const auto& entry : std::filesystem::directory_iterator(report / "media")) {
    if (entry.path().string().ends_with("domain-1-task-0.shard-0-1.gif")) made = entry.path();
  }
  ASSERT_FALSE(made.empty());
  EXPECT_NE(made.filename().string().find("step-"), std::string::npos) << made << " does not name its checkpoint";
  const auto when = std::filesystem::last_write_time(made);
  write_file_atomic(report / "media" / "older.gif", "GIF89a");
  write_file_atomic(report / "older.domain.html", "x");
  std::filesystem::remove(media / "domain-0-task-1.shard-0-0.png");
  write_file_atomic(media / "domain-0-task-1.shard-0-1.png", "no picture");
  write_report(run.root());
  EXPECT_EQ(std::filesystem::last_write_time(made), when);
  EXPECT_FALSE(std::filesystem::exists(report / "media" / "older.gif"));
  EXPECT_FALSE(std::filesystem::exists(report / "older.domain.html"));
  const std::string page = read_file(report / "large.domain-0.html");
  EXPECT_EQ(fault_of(page), "");
  EXPECT_EQ(count(page, "<figure>"), 6u);
  EXPECT_EQ(count(page, "<img "), 4u) << "one is missing, one is damaged: the page is there without them";
}

TEST(MediaTest, ExtremesOfShardsAreThoseOfAll) {
  const gato::test::TempFolder temp;
  const auto item = [](const std::string& kind, double value, uint64_t seed) {
    MediaItem made;
    made.task = "a/b";
    made.kind = kind;
    made.episode_return = value;
    made.seed = seed;
    return made;
  };
  write_media(temp.path(), "a/b", 0, {item("first, worst", 3, 1), item("best", 5, 2)});
  write_media(temp.path(), "a/b", 1, {item("best", 9, 3), item("worst", 4, 4)});
  const auto items = read_media(temp.path()).at("a/b");
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0], item("first, worst", 3, 1));
  EXPECT_EQ(items[1], item("best", 9, 3));
  EXPECT_TRUE(read_media(temp / "none").empty());
}

TEST(MediaTest, DamagedDescriptionsAreRefused) {
  const gato::test::TempFolder temp;
  MediaItem item;
  item.task = "a/b";
  write_frames(temp.path(), 0, 0, testing::wandering_ball(3, 16, 1), item);
  write_media(temp.path(), "a/b", 0, {item});
  EXPECT_EQ(read_frames(temp.path(), read_media(temp.path()).at("a/b").at(0)), testing::wandering_ball(3, 16, 1));
  const Path file = temp / "media" / "a-b.shard-0.json";
  const std::string whole = read_file(file);
  for (size_t length = 0; length + 2 < whole.size(); length += 5) {
    write_file_atomic(file, whole.substr(0, length));
    EXPECT_THROW(static_cast<void>(read_media(temp.path())), DataError) << length;
  }
  for (const auto& [from, to] :
       {std::pair{"\"media/", "\"../../"}, {"\"frames\": 3", "\"frames\": 0"}, {"\"kind\"", "\"kin\""}}) {
    std::string changed = whole;
    changed.replace(changed.find(from), std::string(from).size(), to);
    write_file_atomic(file, changed);
    EXPECT_THROW(static_cast<void>(read_media(temp.path())), DataError) << to;
  }
  item.frames = 400;
  EXPECT_THROW(static_cast<void>(read_frames(temp.path(), item)), DataError);
}

TEST(FilmTest, IsMadeWhereFfmpegIs) {
  const gato::test::TempFolder temp;
  if (!can_make_films()) GTEST_SKIP() << "no ffmpeg";
  ASSERT_TRUE(write_film(temp / "x.mp4", testing::wandering_ball(5, 15, 1), 10, 3));
  EXPECT_EQ(read_file(temp / "x.mp4").substr(4, 4), "ftyp");
}

}  // namespace
}  // namespace gato::eval

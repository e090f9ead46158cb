#include "gato/run/published.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "run/json_values.h"

namespace gato::run {
namespace {

std::vector<std::string> texts(JsonFields& fields, std::string_view key) {
  std::vector<std::string> list;
  for (const Json& entry : fields.array(key)) {
    if (!entry.is_string()) fields.fail(key, "expected a list of texts");
    list.push_back(entry.get<std::string>());
  }
  return list;
}

PublishedHeadline parse_headline(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PublishedHeadline headline;
  headline.what = fields.text("what");
  headline.value = fields.number("value");
  if (fields.has("tasks")) headline.tasks = fields.integer("tasks", 1);
  if (fields.has("domain")) headline.domain = fields.text("domain");
  fields.finish();
  return headline;
}

PublishedReturns parse_returns(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PublishedReturns returns;
  returns.name = fields.text("name");
  returns.tasks = texts(fields, "tasks");
  if (fields.has("random")) returns.random = fields.number("random");
  if (fields.has("human")) returns.human = fields.number("human");
  if (fields.has("expert")) returns.expert = fields.number("expert");
  if (fields.has("note")) returns.note = fields.text("note");
  fields.finish();
  return returns;
}

}  // namespace

PublishedScores parse_published(std::string_view json, const std::string& origin) {
  const Json root = parse_json(json, origin, {.max_depth = 8});
  JsonFields fields(root, origin);
  check_format(fields, "gato-published", 1);
  PublishedScores scores;
  scores.system = fields.text("system");
  scores.source = fields.text("source");
  scores.licence = fields.text("licence");
  scores.table = fields.text("table");
  scores.protocol = fields.text("protocol");
  scores.errors = texts(fields, "errors");
  for (const auto& entry : fields.array("headlines").items()) {
    scores.headlines.push_back(parse_headline(entry.value(), cat(origin, ": headlines[", entry.key(), "]")));
  }
  for (const auto& entry : fields.array("returns").items()) {
    scores.returns.push_back(parse_returns(entry.value(), cat(origin, ": returns[", entry.key(), "]")));
  }
  fields.finish();
  return scores;
}

std::vector<PublishedScores> read_published(const Path& folder) {
  std::vector<Path> files;
  if (!std::filesystem::is_directory(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<PublishedScores> all;
  for (const Path& file : files) {
    all.push_back(parse_published(read_file(file, uint64_t{16} << 20), file.string()));
  }
  return all;
}

}  // namespace gato::run

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "eval_verbs.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"
#include "gato/env/remote.h"
#include "gato/env/suite.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> patterns;
  std::string suite;
  bool json = false;
};

std::string field_text(const episode::FieldSpec& field) {
  std::string text = cat(field.name, " ", episode::modality_name(field.modality));
  std::vector<std::string> sizes;
  for (const int64_t size : field.shape) sizes.push_back(std::to_string(size));
  if (!sizes.empty()) text += cat("[", join(sizes, "x"), "]");
  if (field.modality == episode::Modality::kDiscrete) text += cat("<", field.num_values);
  return text;
}

std::string fields_text(const std::vector<episode::FieldSpec>& fields) {
  std::vector<std::string> texts;
  for (const episode::FieldSpec& field : fields) texts.push_back(field_text(field));
  return join(texts, ", ");
}

std::string return_text(const episode::ReturnRecord& record) {
  return record.episodes == 0 ? "-" : format_fixed(record.mean, 3);
}

/// What a reader of the table must know of a task's score; "" when there is nothing.
std::string remark(const env::TaskEntry& entry, const episode::TaskSpec& spec) {
  if (spec.scoring == episode::Scoring::kExactMatch) return "exact match";
  if (!entry.make_expert) return "no expert: unscored";
  if (spec.expert.episodes == 0 || spec.random.episodes == 0) return entry.family.empty() ? "" : "not measured";
  return env::expert_is_better(spec) ? "" : "expert not above random: left out of means";
}

struct Row {
  const env::TaskEntry* entry;
  episode::TaskSpec spec;
};

Json fields_json(const std::vector<episode::FieldSpec>& fields) {
  Json list = Json::array();
  for (const episode::FieldSpec& field : fields) {
    Json json = {{"name", field.name}, {"modality", episode::modality_name(field.modality)}, {"shape", field.shape}};
    if (field.modality == episode::Modality::kDiscrete) json["num_values"] = field.num_values;
    if (!field.low.empty()) json["low"] = field.low;
    if (!field.high.empty()) json["high"] = field.high;
    if (!field.unit.empty()) json["unit"] = field.unit;
    list.push_back(std::move(json));
  }
  return list;
}

Json return_json(const episode::ReturnRecord& record) {
  return {{"mean", record.mean}, {"standard_error", record.standard_error}, {"episodes", record.episodes}};
}

Json json_of(const Row& row) {
  const episode::TaskSpec& spec = row.spec;
  Json json = {{"task", spec.id},
               {"domain", spec.domain()},
               {"description", spec.description},
               {"family", row.entry->family},
               {"is_set_up", row.entry->family.empty() || env::family_is_set_up(row.entry->family)},
               {"observation", fields_json(spec.observation)},
               {"action", fields_json(spec.action)},
               {"max_steps", spec.max_steps},
               {"has_expert", static_cast<bool>(row.entry->make_expert)},
               {"remark", remark(*row.entry, spec)}};
  if (spec.expert.episodes > 0) json["expert"] = return_json(spec.expert);
  if (spec.random.episodes > 0) json["random"] = return_json(spec.random);
  return json;
}

/// Cells of a line but the last one under each other; numbers to the right.
void print_aligned(const std::vector<std::vector<std::string>>& lines) {
  std::vector<size_t> widths(lines.at(0).size(), 0);
  for (const auto& line : lines) {
    for (size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  }
  for (const auto& line : lines) {
    std::string text;
    for (size_t c = 0; c < line.size(); ++c) {
      const std::string space(widths[c] - line[c].size(), ' ');
      text += c == 0 ? "  " + line[c] + space : c + 1 < line.size() ? "  " + space + line[c] : "  " + line[c];
    }
    std::cout << text << "\n";
  }
}

void print_domain(const std::vector<const Row*>& rows) {
  const Row& first = *rows.at(0);
  std::cout << first.spec.domain() << ", " << rows.size() << (rows.size() == 1 ? " task" : " tasks");
  if (const std::string& family = first.entry->family; !family.empty()) {
    std::cout << ", by " << family
              << (env::family_is_set_up(family) ? "" : cat("; not set up here: tools/setup --envs ", family));
  }
  std::cout << "\n";
  std::vector<std::vector<std::string>> lines = {{"task", "steps", "expert", "random", "sees -> does"}};
  for (const Row* row : rows) {
    const std::string words = remark(*row->entry, row->spec);
    lines.push_back({row->spec.id, row->spec.max_steps > 0 ? std::to_string(row->spec.max_steps) : "-",
                     return_text(row->spec.expert), return_text(row->spec.random),
                     cat(fields_text(row->spec.observation), " -> ", fields_text(row->spec.action),
                         words.empty() ? "" : cat("  [", words, "]"))});
  }
  print_aligned(lines);
}

/// `rows` by id, so those of a domain are together.
void print_table(const std::vector<Row>& rows) {
  std::map<std::string, std::vector<const Row*>> domains;
  for (const Row& row : rows) domains[row.spec.domain()].push_back(&row);
  for (const auto& [domain, of_domain] : domains) {
    print_domain(of_domain);
    std::cout << "\n";
  }
  std::cout << rows.size() << (rows.size() == 1 ? " task" : " tasks") << "; returns are means over the episodes of "
            << "reference play, \"-\" where they are measured when a task is evaluated or collected\n";
}

/// Ids that are asked for: those of the suite, else all, and of these those that match a pattern.
std::vector<std::string> wanted(const Arguments& arguments) {
  std::set<std::string> ids;
  if (arguments.suite.empty()) {
    for (const std::string& id : env::task_ids()) ids.insert(id);
  } else {
    for (const auto& [id, settings] : env::resolve_tasks(env::load_suite(arguments.suite))) ids.insert(id);
  }
  if (arguments.patterns.empty()) return {ids.begin(), ids.end()};
  std::set<std::string> matching;
  for (const std::string& pattern : arguments.patterns) {
    for (const std::string& id : env::match_tasks(pattern)) {
      if (ids.contains(id)) matching.insert(id);
    }
  }
  if (matching.empty()) {
    throw ConfigError(cat("no task of suite ", arguments.suite, " matches ", join(arguments.patterns, ", ")));
  }
  return {matching.begin(), matching.end()};
}

int tasks(const Arguments& arguments) {
  std::vector<Row> rows;
  for (const std::string& id : wanted(arguments)) {
    const env::TaskEntry& entry = env::find_task(id);
    rows.push_back({&entry, entry.known ? *entry.known : env::make_environment(id)->spec()});
  }
  if (!arguments.json) {
    print_table(rows);
    return kDone;
  }
  for (const Row& row : rows) std::cout << json_of(row).dump() << "\n";
  return kDone;
}

}  // namespace

std::function<int()> add_tasks(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand("tasks", "List the tasks: what is seen and done, expert and random returns");
  verb->add_option("patterns", arguments->patterns, "Only tasks that match, such as 'metaworld/*'");
  verb->add_option("--suite", arguments->suite, "Only tasks of this suite: a name in configs/suites, or a file");
  verb->add_flag("--json", arguments->json, "One JSON object per task and line");
  return [verb, arguments] { return verb->parsed() ? tasks(*arguments) : -1; };
}

}  // namespace gato::cli

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "eval_verbs.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/env/environment.h"
#include "gato/env/remote.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> patterns;
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

Json json_of(const Row& row) {
  const episode::TaskSpec& spec = row.spec;
  Json json = {{"task", spec.id},
               {"domain", spec.domain()},
               {"description", spec.description},
               {"family", row.entry->family},
               {"observation", fields_text(spec.observation)},
               {"action", fields_text(spec.action)},
               {"max_steps", spec.max_steps},
               {"has_expert", static_cast<bool>(row.entry->make_expert)},
               {"remark", remark(*row.entry, spec)}};
  if (spec.expert.episodes > 0) json["expert"] = spec.expert.mean;
  if (spec.random.episodes > 0) json["random"] = spec.random.mean;
  return json;
}

void print_table(const std::vector<Row>& rows) {
  std::string domain;
  for (const Row& row : rows) {
    if (row.spec.domain() != domain) {
      domain = row.spec.domain();
      std::cout << (&row == rows.data() ? "" : "\n") << domain;
      if (!row.entry->family.empty()) {
        std::cout << "  (" << row.entry->family
                  << (env::family_is_set_up(row.entry->family)
                          ? ")"
                          : cat(", not set up here: tools/setup --envs ", row.entry->family, ")"));
      }
      std::cout << "\n  task  steps  expert  random  sees -> does\n";
    }
    const std::string words = remark(*row.entry, row.spec);
    std::cout << "  " << row.spec.id << "  " << (row.spec.max_steps > 0 ? std::to_string(row.spec.max_steps) : "-")
              << "  " << return_text(row.spec.expert) << "  " << return_text(row.spec.random) << "  "
              << fields_text(row.spec.observation) << " -> " << fields_text(row.spec.action)
              << (words.empty() ? "" : cat("  [", words, "]")) << "\n";
  }
}

int tasks(const Arguments& arguments) {
  std::vector<std::string> ids;
  for (const std::string& pattern : arguments.patterns) {
    for (const std::string& id : env::match_tasks(pattern)) ids.push_back(id);
  }
  if (arguments.patterns.empty()) ids = env::task_ids();
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::vector<Row> rows;
  for (const std::string& id : ids) {
    const env::TaskEntry& entry = env::find_task(id);
    rows.push_back({&entry, entry.known ? *entry.known : env::make_environment(id)->spec()});
  }
  if (!arguments.json) {
    print_table(rows);
    std::cout << "\n" << rows.size() << " tasks\n";
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
  verb->add_flag("--json", arguments->json, "One JSON object per task and line");
  return [verb, arguments] { return verb->parsed() ? tasks(*arguments) : -1; };
}

}  // namespace gato::cli

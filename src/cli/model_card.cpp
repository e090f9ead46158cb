#include "model_card.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/version.h"
#include "gato/episode/shard.h"
#include "gato/run/results.h"
#include "gato/run/run_folder.h"

namespace gato::cli {
namespace {

/// The text of a scalar by its path; "" when it is not there.
std::string text_of(const ConfigNode& config, std::string_view path) {
  const ConfigNode* node = &config;
  for (const std::string& part : split(path, '.')) {
    node = node->find(part);
    if (node == nullptr) return "";
  }
  return node->scalar;
}

/// A cell of a table: one line, no bars.
std::string cell(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::replace(text.begin(), text.end(), '|', '/');
  return text.empty() ? "-" : text;
}

double state_number(const checkpoint::Checkpoint& checkpoint, const char* key) {
  if (!checkpoint.has("training_state.json")) return 0;
  const std::string origin = (checkpoint.path() / "training_state.json").string();
  const Json state = parse_json(checkpoint.read("training_state.json"), origin);
  const auto value = state.is_object() ? state.find(key) : state.end();
  return value != state.end() && value->is_number() ? value->get<double>() : 0;
}

std::vector<episode::TaskSpec> tasks_of(const checkpoint::Checkpoint& checkpoint) {
  if (!checkpoint.has("demonstrations.gato")) return {};
  return episode::ShardReader(checkpoint.file("demonstrations.gato")).tasks();
}

std::string head(const CardInputs& inputs) {
  return cat(
      "---\nlibrary_name: gato\npipeline_tag: robotics\ntags:\n- gato\n- generalist-agent\n- imitation-learning\n"
      "license: other\n---\n\n# ",
      cell(inputs.name), "\n\n");
}

std::string about(const CardInputs& inputs) {
  const auto setting = [&](const char* path) { return text_of(inputs.config, path); };
  return cat(
      "A generalist agent after *A Generalist Agent* (Reed et al. 2022): one transformer for text, images, discrete "
      "actions and continuous joint torques, trained by imitation with gato ",
      version(), ".\n\n| | |\n| --- | --- |\n| parameters | ", inputs.parameters, " (", inputs.weights_type,
      ") |\n| layers, width, heads x head dim, hidden | ", setting("model.layers"), ", ", setting("model.width"), ", ",
      setting("model.heads"), " x ", setting("model.head_dim"), ", ", setting("model.hidden"), " |\n| positions | ",
      setting("model.position"), " |\n| longest context | ", setting("data.row_tokens"),
      " tokens |\n\n`config.json` has every size, `config.yaml` every setting of the training, `tokenizer.model` the "
      "SentencePiece model of its text (where it knows text).\n\n");
}

std::string mixture_table(const ConfigNode& config) {
  const ConfigNode* data = config.find("data");
  const ConfigNode* schedule = data == nullptr ? nullptr : data->find("schedule");
  std::string out = "| from row | tasks | share of tokens | steps per window |\n| --- | --- | --- | --- |\n";
  if (schedule == nullptr || schedule->list.empty()) return out + "| 0 | everything | equal | as many as fit a row |\n";
  for (const ConfigNode& phase : schedule->list) {
    const ConfigNode* mixture = phase.find("mixture");
    for (const ConfigNode& entry : mixture == nullptr ? std::vector<ConfigNode>{} : mixture->list) {
      const ConfigNode* steps = entry.find("steps");
      std::vector<std::string> bounds;
      if (steps != nullptr) {
        for (const ConfigNode& bound : steps->list) bounds.push_back(bound.scalar);
      }
      out += cat("| ", cell(text_of(phase, "first_row")), " | ", cell(text_of(entry, "tasks")), " | ",
                 cell(text_of(entry, "share")), " | ",
                 cell(bounds.empty() ? text_of(entry, "steps") : join(bounds, " to ")), " |\n");
    }
  }
  return out;
}

std::string training(const CardInputs& inputs) {
  const checkpoint::Checkpoint& checkpoint = *inputs.checkpoint;
  std::string out = cat("## Training\n\n", checkpoint.step(), " steps of ", text_of(inputs.config, "train.batch_rows"),
                        " rows; ", format_count(state_number(checkpoint, "tokens")), " tokens seen; ",
                        format_seconds(state_number(checkpoint, "seconds")), " of training; seed ",
                        text_of(inputs.config, "train.seed"), "; AdamW, learning rate ",
                        text_of(inputs.config, "optimizer.learning_rate"),
                        ".\n\nThe mixture, by patterns of task names (shares are "
                        "relative to each other):\n\n",
                        mixture_table(inputs.config), "\n");
  const auto tasks = tasks_of(checkpoint);
  if (tasks.empty()) return out;
  out += "Tasks in the data:\n\n| task | what | licence of the data |\n| --- | --- | --- |\n";
  for (const episode::TaskSpec& task : tasks) {
    out += cat("| ", cell(task.id), " | ", cell(task.description), " | ",
               task.licence.empty() ? "generated by the project" : cell(task.licence), " |\n");
  }
  return out + "\n";
}

std::string score_row(const std::string& task, const run::TaskSummary& summary) {
  const auto number = [](const std::optional<double>& value, int digits) {
    return value ? format_fixed(*value, digits) : std::string("-");
  };
  const std::string interval =
      summary.ci95 ? cat(format_fixed(summary.ci95->first, 1), " to ", format_fixed(summary.ci95->second, 1))
                   : std::string("-");
  const std::string loss =
      summary.loss ? cat("; ", format_fixed(summary.loss->nats_per_token, 2), " nats per token") : std::string();
  return cat("| ", cell(task), " | ", number(summary.score, 1), " | ", interval, " | ", summary.rollouts, " | ",
             number(summary.mean_return, 2), " | ", number(summary.expert_return, 2), " | ",
             number(summary.random_return, 2), " | ", cell(summary.note + loss), " |\n");
}

std::string scores(const CardInputs& inputs) {
  std::string out = "## Scores\n\n";
  const auto lines =
      inputs.run.empty() ? std::vector<run::ScoreLine>{} : run::read_scores(run::RunFolder(inputs.run).scores_path());
  bool any = false;
  for (const run::ScoreLine& line : lines) {
    if (line.summary.step != inputs.checkpoint->step()) continue;
    any = true;
    out += cat(
        "Suite `", line.summary.suite, "`",
        line.summary.mean_score ? cat(", mean over domains ", format_fixed(*line.summary.mean_score, 1)) : "",
        ". 100 is the expert of the data, 0 random actions (exact matches in percent where a task is judged so); the "
        "interval is of 95 % over rollouts.\n\n| task | score | interval | rollouts | return | expert | random | note "
        "|\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (const auto& [task, summary] : line.summary.tasks) out += score_row(task, summary);
    out += "\n";
  }
  return any ? out
             : out + "This checkpoint was not evaluated, or its scores were not at hand when it was exported.\n\n";
}

/// What holds for every model of this kind; the one who publishes it adds what is special to it.
constexpr const char* kUse =
    "## Intended use\n\nResearch on agents that learn many tasks at once, and control of the simulated tasks listed "
    "above. It "
    "chooses actions as its demonstrations did; it was not trained to follow instructions beyond those tasks, nor to "
    "be a "
    "source of facts.\n\nOutside its scope: control of real machines, vehicles or anything whose failure can hurt "
    "somebody, "
    "without an independent safety layer and tests of its own; decisions about people; tasks, bodies and observation "
    "formats that were not in its data.\n\n## Harms and limits\n\n"
    "- It imitates. Faults, unsafe habits and prejudices of the experts and texts it was trained on are in what it "
    "does and "
    "says; its text may be wrong, offensive or copied from the data.\n"
    "- Off the paths of its demonstrations it can fail suddenly and confidently. A score is a mean over rollouts of a "
    "simulator with fixed versions and says little about others.\n"
    "- It knows no goal but the next action, and keeps no memory beyond its context.\n"
    "- A captioner or agent that sees can be used to watch people; do not use it for that.\n"
    "- The data's licences above hold for what is made with it; `license` at the top is for the publisher to set.\n";

}  // namespace

std::string model_card(const CardInputs& inputs) {
  return head(inputs) + about(inputs) + training(inputs) + scores(inputs) + kUse;
}

}  // namespace gato::cli

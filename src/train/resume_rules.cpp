#include "resume_rules.h"

#include <array>
#include <map>
#include <set>

namespace gato::train {
namespace {

constexpr const char* kOtherRows = "other rows";
constexpr const char* kOtherModel = "other parameters or another function of them";
constexpr const char* kOtherLoss = "another loss";

constexpr std::array kRules = {
    ResumeRule{"run", OnResume::kMutable, ""},
    ResumeRule{"kernels", OnResume::kMutable, ""},
    ResumeRule{"optimizer", OnResume::kMutable, ""},
    ResumeRule{"comm", OnResume::kMutable, ""},
    ResumeRule{"eval", OnResume::kMutable, ""},
    ResumeRule{"model", OnResume::kFixed, kOtherModel},
    ResumeRule{"tokenizer.model", OnResume::kCompared, ""},
    ResumeRule{"tokenizer.private_discrete", OnResume::kFixed, "other tokens"},
    ResumeRule{"data.datasets", OnResume::kCompared, ""},
    ResumeRule{"data.row_tokens", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.schedule", OnResume::kCompared, ""},
    ResumeRule{"data.validation_share", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.label_weight_power", OnResume::kFixed, kOtherLoss},
    ResumeRule{"data.prompt_tokens_share", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.prompt_from_end", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.prompt_loss", OnResume::kFixed, kOtherLoss},
    ResumeRule{"data.shuffle_shards", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.loader_threads", OnResume::kMutable, ""},
    ResumeRule{"data.prefetch_batches", OnResume::kMutable, ""},
    ResumeRule{"data.filters", OnResume::kFixed, kOtherRows},
    ResumeRule{"data.on_corrupt", OnResume::kMutable, ""},
    ResumeRule{"data.quarantine_budget", OnResume::kMutable, ""},
    ResumeRule{"data.cache_mib", OnResume::kMutable, ""},
    ResumeRule{"train.steps", OnResume::kMutable, ""},
    ResumeRule{"train.batch_rows", OnResume::kFixed, "other rows per step"},
    ResumeRule{"train.micro_batch_rows", OnResume::kFixedForProcesses, "gradients are added up in another order"},
    ResumeRule{"train.recompute", OnResume::kMutable, ""},
    ResumeRule{"train.shard_optimizer", OnResume::kMutable, ""},
    ResumeRule{"train.cuda_graph", OnResume::kMutable, ""},
    ResumeRule{"train.device", OnResume::kMutable, ""},
    ResumeRule{"train.seed", OnResume::kFixed, "other rows and dropout"},
    ResumeRule{"train.soft_target_bins", OnResume::kFixed, kOtherLoss},
    ResumeRule{"train.log_every", OnResume::kMutable, ""},
    ResumeRule{"train.validate_every", OnResume::kMutable, ""},
    ResumeRule{"train.validation_rows", OnResume::kMutable, ""},
    ResumeRule{"train.checkpoint_every", OnResume::kMutable, ""},
    ResumeRule{"train.keep_checkpoints", OnResume::kMutable, ""},
    ResumeRule{"train.keep_every", OnResume::kMutable, ""},
    ResumeRule{"train.keep_best", OnResume::kMutable, ""},
    ResumeRule{"train.best_by", OnResume::kMutable, ""},
    ResumeRule{"train.best_is", OnResume::kMutable, ""},
    ResumeRule{"train.background_save", OnResume::kMutable, ""},
    ResumeRule{"train.save_failures", OnResume::kMutable, ""},
    ResumeRule{"train.verify_last_save", OnResume::kMutable, ""},
    ResumeRule{"train.init_from", OnResume::kMutable, ""},
    ResumeRule{"train.init_include", OnResume::kMutable, ""},
    ResumeRule{"train.init_exclude", OnResume::kMutable, ""},
    ResumeRule{"train.init_strict", OnResume::kMutable, ""},
    ResumeRule{"train.max_minutes", OnResume::kMutable, ""},
    ResumeRule{"train.threads", OnResume::kMutable, ""},
    ResumeRule{"train.demonstration_steps", OnResume::kMutable, ""},
    ResumeRule{"train.heldout_tokens", OnResume::kMutable, ""},
    ResumeRule{"train.check_replicas_every", OnResume::kMutable, ""},
    ResumeRule{"train.max_failures_per_step", OnResume::kMutable, ""},
    ResumeRule{"train.hang_seconds", OnResume::kMutable, ""},
    ResumeRule{"train.long_hang_seconds", OnResume::kMutable, ""},
};

/// Whether `path` is `of` or inside it.
bool covers(std::string_view of, std::string_view path) {
  return path.starts_with(of) && (path.size() == of.size() || path[of.size()] == '.' || path[of.size()] == '[');
}

}  // namespace

std::span<const ResumeRule> resume_rules() { return kRules; }

const ResumeRule& resume_rule(const std::string& path) {
  const ResumeRule* found = nullptr;
  for (const ResumeRule& rule : kRules) {
    if (!covers(rule.path, path)) continue;
    GATO_CHECK(found == nullptr, path, " has two rules for going on, ", rule.path, " among them");
    found = &rule;
  }
  GATO_CHECK(found != nullptr, path, " has no rule for going on: give it one in src/train/resume_rules.cpp");
  return *found;
}

std::vector<ChangedSetting> changed_fixed_settings(const TrainingConfig& before, const TrainingConfig& now,
                                                   bool same_processes) {
  const auto old_values = config_leaves(before), new_values = config_leaves(now);
  std::set<std::string> paths;
  for (const auto& [path, value] : old_values) paths.insert(path);
  for (const auto& [path, value] : new_values) paths.insert(path);
  const auto value_of = [](const std::map<std::string, std::string>& values, const std::string& path) {
    const auto found = values.find(path);
    return found == values.end() ? std::string("(none)") : found->second;
  };
  std::vector<ChangedSetting> changed;
  for (const std::string& path : paths) {
    const ResumeRule& rule = resume_rule(path);
    const bool fixed = rule.kind == OnResume::kFixed || (rule.kind == OnResume::kFixedForProcesses && same_processes);
    const std::string old_value = value_of(old_values, path), new_value = value_of(new_values, path);
    if (fixed && old_value != new_value) changed.push_back({path, old_value, new_value, rule.why});
  }
  return changed;
}

std::string describe(const std::vector<ChangedSetting>& changed) {
  std::vector<std::string> lines;
  for (const ChangedSetting& setting : changed) {
    lines.push_back(cat("  ", setting.path, ": ", setting.before, " -> ", setting.now, " (", setting.why, ")"));
  }
  return join(lines, "\n");
}

}  // namespace gato::train

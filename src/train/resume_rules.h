#pragma once
#include <span>
#include <string>
#include <vector>

#include "gato/train/config.h"

/// What may change about a run when it goes on.
namespace gato::train {

enum class OnResume {
  kMutable,  ///< Another value holds from now on.
  kFixed,    ///< Another value would make other numbers out of the same checkpoint, or does not fit it.
  /// Fixed as long as as many processes go on: another number adds gradients up in another order anyhow.
  kFixedForProcesses,
  kCompared,  ///< By other means: the data's fingerprint, the tokenizer's content.
};

struct ResumeRule {
  const char* path;  ///< Of a setting, or of a section or list with all that is in it.
  OnResume kind = OnResume::kMutable;
  const char* why;  ///< For the message; "" for kMutable.
};

/// The rules of all settings, every one covered by exactly one (a test looks).
[[nodiscard]] std::span<const ResumeRule> resume_rules();

/// The rule of a setting by its path ("data.filters[0].tasks"); ContractError for one without.
[[nodiscard]] const ResumeRule& resume_rule(const std::string& path);

/// One fixed setting that differs.
struct ChangedSetting {
  std::string path, before, now;  ///< Values as YAML; "(none)" where there is none.
  std::string why;
};
[[nodiscard]] std::vector<ChangedSetting> changed_fixed_settings(const TrainingConfig& before,
                                                                 const TrainingConfig& now, bool same_processes);

/// "  model.layers: 4 -> 6 (other parameters)", a line each.
[[nodiscard]] std::string describe(const std::vector<ChangedSetting>& changed);

}  // namespace gato::train

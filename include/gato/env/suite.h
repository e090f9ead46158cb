#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gato/core/config.h"

namespace gato::env {

/// How a field's value is chosen from the model's distribution.
enum class Decoding { kDefault, kGreedy, kMean, kSample };
GATO_CONFIG_ENUM(Decoding, 4, {"default", Decoding::kDefault}, {"greedy", Decoding::kGreedy}, {"mean", Decoding::kMean},
                 {"sample", Decoding::kSample})

/// Settings of the tasks that match one pattern. In a suite file later entries win for the tasks they match.
struct SuiteTask {
  std::string pattern;                ///< Task ids, `*` and `?` allowed.
  int64_t episodes = 0;               ///< Demonstrations `gato-data collect` records; 0: the task is only evaluated.
  std::vector<double> noise = {0.0};  ///< Noise levels of demonstrations, one drawn per episode.
  int64_t rollouts = 50;              ///< Episodes `gato-eval` plays; 0: the task is only collected.
  Decoding decoding = Decoding::kDefault;
  double temperature = 1.0;  ///< For sampled decoding.
  double top_p = 1.0;        ///< Sampled decoding: only the likeliest choices that together have this probability.
};
GATO_CONFIG(SuiteTask, GATO_FIELD(pattern, "Task ids; * and ? allowed."),
            GATO_FIELD(episodes, "Demonstrations to record; 0: the task is only evaluated."),
            GATO_FIELD(noise, "Noise levels of demonstrations in [0, 1]; one is drawn per episode."),
            GATO_FIELD(rollouts, "Evaluation episodes; 0: the task is only collected."),
            GATO_FIELD(decoding, "default, greedy, mean or sample."),
            GATO_FIELD(temperature, "For sampled decoding; > 0."),
            GATO_FIELD(top_p, "Sampled decoding: only the likeliest choices that together have this probability."))
void validate_config(const SuiteTask& task, ConfigProblems& problems);

/// A text corpus: plain UTF-8 files whose documents are parted by lines that hold only `separator` (or a whole file
/// each).
struct SuiteText {
  std::string name;                ///< Task id of the documents, such as "text/jargon".
  std::vector<std::string> files;  ///< Relative to the folder `data/` of the installation or checkout.
  std::string licence;
  std::string separator = "%";
};
GATO_CONFIG(SuiteText, GATO_FIELD(name, "Task id of the documents."), GATO_FIELD(files, "Files below data/."),
            GATO_FIELD(licence, "Licence of the text."), GATO_FIELD(separator, "Line that parts documents."))
void validate_config(const SuiteText& text, ConfigProblems& problems);

/// A named set of tasks (`configs/suites/NAME.yaml`).
struct Suite {
  std::string name;
  std::vector<SuiteTask> tasks;
  std::vector<SuiteText> texts;
};
GATO_CONFIG(Suite, GATO_FIELD(name, "Name of the suite."),
            GATO_FIELD(tasks, "Settings by task pattern; later entries win."),
            GATO_FIELD(texts, "Text corpora to record."))
void validate_config(const Suite& suite, ConfigProblems& problems);

/// The suite of a file path, or of a name: configs/suites/NAME.yaml in the working directory, then in the installation
/// or checkout (data_root()). ConfigError naming the places looked at and the suites found.
[[nodiscard]] Suite load_suite(const std::string& name_or_path);

/// The tasks of a suite with their settings, sorted by id. ConfigError for a pattern that matches nothing.
[[nodiscard]] std::map<std::string, SuiteTask> resolve_tasks(const Suite& suite);

/// Folder that holds configs/ and data/: GATO_ROOT, else share/gato beside the program, else the source tree it was
/// built from.
[[nodiscard]] std::string data_root();

}  // namespace gato::env

#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/config.h"
#include "gato/core/file.h"
#include "gato/episode/spec.h"

/// The YAML file that says what the columns of a table of steps are: docs/importing.md.
namespace gato::episode {

/// Columns that are no fields; "" where the table has none.
struct CsvColumns {
  std::string episode, reward, terminated, truncated, success, agent, seed;
};
GATO_CONFIG(CsvColumns, GATO_FIELD(episode, "The episode's id; rows with the same one follow each other. Required."),
            GATO_FIELD(reward, "Reward of the step."),
            GATO_FIELD(terminated, "Whether the task ended here by itself; true in an episode's last row only."),
            GATO_FIELD(truncated, "Whether a time limit ended it; true in an episode's last row only."),
            GATO_FIELD(success, "Whether the episode succeeded; read in its last row, empty: unknown."),
            GATO_FIELD(agent, "Who acted; the same in all rows of an episode."),
            GATO_FIELD(seed, "Seed of the environment; the same in all rows of an episode."))

enum class CsvModality { kContinuous, kDiscrete, kText, kImage };
GATO_CONFIG_ENUM(CsvModality, 4, {"continuous", CsvModality::kContinuous}, {"discrete", CsvModality::kDiscrete},
                 {"text", CsvModality::kText}, {"image", CsvModality::kImage})
enum class CsvCodec { kPng, kJpeg };
GATO_CONFIG_ENUM(CsvCodec, 2, {"png", CsvCodec::kPng}, {"jpeg", CsvCodec::kJpeg})
enum class CsvScoring { kReturn, kExactMatch, kLoss };
GATO_CONFIG_ENUM(CsvScoring, 3, {"return", CsvScoring::kReturn}, {"exact_match", CsvScoring::kExactMatch},
                 {"loss", CsvScoring::kLoss})

struct CsvField {
  CsvModality modality = CsvModality::kContinuous;
  std::vector<std::string> columns;
  std::vector<int64_t> shape;
  std::optional<int64_t> num_values;
  std::vector<std::string> values;
  std::vector<double> low, high;
  std::string unit;
  CsvCodec codec = CsvCodec::kPng;
  std::vector<std::string> label;
};
GATO_CONFIG(CsvField, GATO_FIELD(modality, "continuous, discrete, text or image."),
            GATO_FIELD(columns, "Columns of the elements, row-major; one for text and images."),
            GATO_FIELD(shape,
                       "Shape of a value; default: a number for one column, else their count. Images: height, "
                       "width, 3."),
            GATO_FIELD(num_values, "Discrete: values are 0 to num_values - 1."),
            GATO_FIELD(values, "Discrete: the cells' words, in the order of their numbers, instead of num_values."),
            GATO_FIELD(low, "Continuous: lower bounds, one for all or one for each; actions need them."),
            GATO_FIELD(high, "Continuous: upper bounds."), GATO_FIELD(unit, "Continuous: unit for people."),
            GATO_FIELD(codec, "Images (cells are file names beside the table): png or jpeg, what shards store."),
            GATO_FIELD(label, "Actions: columns of the expert's action, where another one was executed."))

struct CsvMapping {
  std::string task, description, licence;
  CsvScoring scoring = CsvScoring::kReturn;
  bool partial_view = false;
  int64_t max_steps = 0;
  std::string delimiter = ",";
  CsvColumns columns;
  std::map<std::string, CsvField> observation, action;
};
GATO_CONFIG(CsvMapping, GATO_FIELD(task, "Task id, domain/name."), GATO_FIELD(description, "One sentence for people."),
            GATO_FIELD(licence, "Licence of the data."), GATO_FIELD(scoring, "return, exact_match or loss."),
            GATO_FIELD(partial_view, "Whether the observation hides state."),
            GATO_FIELD(max_steps, "Episodes are cut here; 0: unknown."),
            GATO_FIELD(delimiter, "The byte between cells, such as \",\", \";\" or \"\\t\"."),
            GATO_FIELD(columns, "Columns that are no fields."), GATO_FIELD(observation, "Fields by name."),
            GATO_FIELD(action, "Fields by name."))
void validate_config(const CsvMapping& mapping, ConfigProblems& problems);

/// A field and where its elements stand in a row.
struct CsvFieldPlan {
  FieldSpec spec;
  std::vector<size_t> columns;
  std::map<std::string, int32_t, std::less<>> values;  ///< Words of a discrete field; empty: numbers.
};

/// A mapping applied to the header of a table.
struct CsvPlan {
  TaskSpec task;
  char delimiter = ',';
  std::vector<std::string> header;
  std::vector<CsvFieldPlan> observation, action, label;  ///< As the task's fields; no label: empty.
  size_t episode = 0;
  std::optional<size_t> reward, terminated, truncated, success, agent, seed;
  std::vector<std::string> mapping;  ///< ForeignFormat::mapping().
};

[[nodiscard]] CsvMapping load_csv_mapping(const Path& file);

/// Throws ConfigError naming mapping and table for columns that the header does not have (with the nearest one it has)
/// and for fields that make no task.
[[nodiscard]] CsvPlan plan_csv(const CsvMapping& mapping, std::vector<std::string> header, const std::string& table);

}  // namespace gato::episode

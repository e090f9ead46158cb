#pragma once
#include <optional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/data/batch.h"
#include "gato/kernels/attention_route.h"
#include "gato/train/config.h"

/// How a run's attention is computed, and why: `attention.json` of a run folder (docs/formats/run_folder.md).
namespace gato::train {

constexpr const char* kAttentionFile = "attention.json";

struct AttentionRecord {
  std::string device;  ///< Name of the GPU it was measured on.
  kernels::AttentionRoute route = kernels::AttentionRoute::kAuto;
  bool own_is_proven = false;
  std::vector<kernels::AttentionTrial> trials;
};
[[nodiscard]] std::string to_json(const AttentionRecord& record);
/// Device and route of the file at `path`; nothing when there is none or it cannot be read (it is then measured anew).
[[nodiscard]] std::optional<AttentionRecord> read_attention_record(const Path& path);
[[nodiscard]] std::string attention_table(const AttentionRecord& record);

/// Throws ConfigError where kernels.attention names a route that `device` or the model's attention cannot take.
void check_attention_setting(const TrainingConfig& config, at::Device device);

/// The route that attention.json at `path` keeps for a GPU of this name; nothing where there is none, or where it says
/// `own` and the kernels of this build are not proven on that kind of GPU: then it is measured anew.
[[nodiscard]] std::optional<kernels::AttentionRoute> recorded_route(const Path& path, const std::string& gpu_name,
                                                                    bool own_is_proven);

/// Makes `config`'s route that of the process without measuring: the named one, else what `record` (attention.json of
/// the run, "" for none) says of `device`, else the device's default. Throws as check_attention_setting.
void set_attention(const TrainingConfig& config, at::Device device, const Path& record = "");

/// Throws ConfigError naming the difference where kernels.attention names a GPU's route that computes something else
/// than the plain reference with the configured model's heads and type, on the first of `rows` and on one sequence as
/// long as a row (libraries go wrong at certain lengths only). Nothing to do for auto, which checks all it takes.
void check_named_route(const TrainingConfig& config, const data::Batch& rows, at::Device device);

/// Tries every route with the configured model's heads and type on the sequences of `rows`, `micro_rows` at a time: of
/// several micro-batches (kernels::try_attention_routes).
[[nodiscard]] std::vector<kernels::AttentionTrial> try_attention(const TrainingConfig& config, const data::Batch& rows,
                                                                 int64_t micro_rows, at::Device device);

}  // namespace gato::train

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

/// Tries every route on a row's sequences, with the configured model's heads and type.
[[nodiscard]] std::vector<kernels::AttentionTrial> try_attention(const TrainingConfig& config, const data::Batch& row,
                                                                 at::Device device);

}  // namespace gato::train

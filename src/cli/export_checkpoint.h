#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/checkpoint/checkpoint.h"

namespace gato::cli {

struct ExportOptions {
  Path out;                                     ///< A new folder, or an empty one.
  std::string name;                             ///< Of the model, for the card; "": the run's.
  bool bf16 = false;                            ///< Weights rounded to bf16 instead of fp32.
  uint64_t max_file_bytes = uint64_t{5} << 30;  ///< Of tensors per file; above it there is an index.
  Path run;  ///< Run folder whose scores go on the card; empty: the checkpoint's own.
};

/// Writes what other programs need of a checkpoint (docs/checkpoints.md): `config.json`, `model.safetensors` or several
/// files and `model.safetensors.index.json`, `tokenizer.model`, `config.yaml`, `value_statistics.json`, `README.md`
/// (the model card) and `checksums.json`. The folder appears whole or not at all. Returns the files' names. Throws
/// CheckpointError unless every byte of the checkpoint is as written, ConfigError when the folder holds something.
std::vector<std::string> export_checkpoint(const checkpoint::CheckpointInfo& checkpoint, const ExportOptions& options);

}  // namespace gato::cli

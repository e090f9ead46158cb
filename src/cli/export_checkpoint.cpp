#include "export_checkpoint.h"

#include <bit>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "ckpt_paths.h"
#include "gato/checkpoint/tensor_set.h"
#include "gato/core/config.h"
#include "gato/core/json.h"
#include "gato/core/version.h"
#include "model_card.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;
using checkpoint::Checkpoint;
using checkpoint::Dtype;
using checkpoint::SafetensorsReader;
using checkpoint::TensorView;

/// YAML as JSON: scalars as what they read as.
Json to_json(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kMap) {
    Json object = Json::object();
    for (const ConfigEntry& entry : node.map) object[entry.key] = to_json(entry.value);
    return object;
  }
  if (node.kind == ConfigNode::Kind::kList) {
    Json list = Json::array();
    for (const ConfigNode& item : node.list) list.push_back(to_json(item));
    return list;
  }
  if (node.kind == ConfigNode::Kind::kNull) return nullptr;
  std::string ignored;
  bool flag = false;
  int64_t whole = 0;
  double number = 0;
  if (!node.quoted && detail::parse_scalar(node, flag, ignored)) return flag;
  if (!node.quoted && detail::parse_scalar(node, whole, ignored)) return whole;
  if (!node.quoted && detail::parse_scalar(node, number, ignored)) return number;
  return node.scalar;
}

Json section(const ConfigNode& config, const char* name) {
  const ConfigNode* node = config.find(name);
  return node == nullptr ? Json::object() : to_json(*node);
}

/// What a loader needs: sizes under the names that common libraries use, and our own settings as they are.
std::string config_json(const ConfigNode& config, const SafetensorsReader& reader, const Checkpoint& checkpoint,
                        bool bf16) {
  const Json model = section(config, "model");
  Json json;
  json["model_type"] = "gato";
  json["architectures"] = {"Gato"};
  json["torch_dtype"] = bf16 ? "bfloat16" : "float32";
  if (reader.has("token_table")) json["vocab_size"] = reader.info("token_table").shape.at(0);
  for (const auto& [common, own] : {std::pair{"hidden_size", "width"},
                                    {"num_hidden_layers", "layers"},
                                    {"num_attention_heads", "heads"},
                                    {"head_dim", "head_dim"},
                                    {"intermediate_size", "hidden"},
                                    {"tie_word_embeddings", "tied"}}) {
    if (const auto value = model.find(own); value != model.end()) json[common] = *value;
  }
  const Json data = section(config, "data");
  if (const auto tokens = data.find("row_tokens"); tokens != data.end()) json["max_position_embeddings"] = *tokens;
  json["gato"] = {{"version", version()},
                  {"step", checkpoint.step()},
                  {"model", model},
                  {"tokenizer", {{"private_discrete", section(config, "tokenizer").value("private_discrete", false)}}}};
  return json.dump(2) + "\n";
}

uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);  // keeps NaN one
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);  // to nearest, ties to even
}

/// The parameters of a checkpoint, mapped from its file, or rounded to bf16 in memory.
class Weights {
 public:
  Weights(const SafetensorsReader& reader, bool bf16) : file_(reader.path()) {
    for (const checkpoint::TensorInfo& tensor : reader.tensors()) {
      const auto bytes = file_.bytes().subspan(tensor.offset, tensor.size);
      parameters_ += static_cast<uint64_t>(tensor.num_elements());
      if (!bf16 || tensor.dtype != Dtype::kF32) {
        if (!tensor.dtype) throw CheckpointError(cat(reader.path().string(), ": ", tensor.name, " is of unknown type"));
        views_.push_back({tensor.name, *tensor.dtype, tensor.shape, bytes});
        continue;
      }
      std::vector<uint16_t>& rounded = rounded_.emplace_back(bytes.size() / sizeof(float));
      for (size_t i = 0; i < rounded.size(); ++i) {
        float value = 0;
        std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
        rounded[i] = to_bf16(value);
      }
      views_.push_back({tensor.name, Dtype::kBF16, tensor.shape, std::as_bytes(std::span(rounded))});
    }
  }
  [[nodiscard]] std::span<const TensorView> views() const { return views_; }
  [[nodiscard]] uint64_t parameters() const { return parameters_; }

 private:
  MappedFile file_;
  std::vector<TensorView> views_;
  std::deque<std::vector<uint16_t>> rounded_;
  uint64_t parameters_ = 0;
};

std::string checksums_json(const Path& folder, const std::vector<std::string>& names) {
  Json json = Json::object();
  for (const std::string& name : names) {
    json[name] = {{"size", fs::file_size(folder / name)}, {"xxh3_128", digest128_of_file(folder / name)}};
  }
  return json.dump(2) + "\n";
}

void require_new(const Path& out) {
  std::error_code error;
  if (!fs::exists(out, error) || (fs::is_directory(out, error) && fs::is_empty(out, error))) return;
  throw ConfigError(cat(out.string(), ": there is something already; give --out a new folder"));
}

/// Writes everything into `folder`, which nobody looks at yet.
std::vector<std::string> write_all(const checkpoint::CheckpointInfo& info, const ExportOptions& options,
                                   const Path& folder) {
  const Checkpoint checkpoint(info.path);
  const std::string config_yaml = checkpoint.read("config.yaml");
  const ConfigNode config = parse_yaml(config_yaml, (info.path / "config.yaml").string());
  const SafetensorsReader reader(checkpoint.file("model.safetensors"));
  const Weights weights(reader, options.bf16);
  checkpoint::check_free_space(folder, fs::file_size(reader.path()));
  std::vector<std::string> names =
      checkpoint::write_tensor_set(folder, weights.views(), options.max_file_bytes, {{"format", "pt"}});
  const auto add = [&](const std::string& name, const std::string& content) {
    write_file_atomic(folder / name, content);
    names.push_back(name);
  };
  add("config.json", config_json(config, reader, checkpoint, options.bf16));
  add("config.yaml", config_yaml);
  for (const char* name : {"tokenizer.model", "value_statistics.json"}) {
    if (checkpoint.has(name)) add(name, checkpoint.read(name));
  }
  const Path run = options.run.empty() ? run_of(info.path) : options.run;
  const std::string name = !options.name.empty() ? options.name
                           : run.empty()         ? info.path.filename().string()
                                                 : cat(run.filename().string(), " at step ", info.step);
  add("README.md", model_card({name, &checkpoint, config, weights.parameters(), options.bf16 ? "BF16" : "F32", run}));
  write_file_atomic(folder / "checksums.json", checksums_json(folder, names));
  names.emplace_back("checksums.json");
  return names;
}

}  // namespace

std::vector<std::string> export_checkpoint(const checkpoint::CheckpointInfo& checkpoint, const ExportOptions& options) {
  require_valid(checkpoint.path);
  Path out = fs::absolute(options.out).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  require_new(out);
  const Path unfinished = out.string() + ".tmp-" + checkpoint::process_tag();
  try {
    make_folders(unfinished);
    std::vector<std::string> names = write_all(checkpoint, options, unfinished);
    std::error_code ignored;
    fs::remove(out, ignored);  // an empty one
    rename_new_durable(unfinished, out);
    return names;
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
    throw;
  }
}

}  // namespace gato::cli

#include "attention_record.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/kernels/device.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {
namespace {

std::optional<kernels::AttentionRoute> route_named(const std::string& name) {
  for (const auto& [known, route] : config_enum(static_cast<const kernels::AttentionRoute*>(nullptr))) {
    if (name == known) return route;
  }
  return std::nullopt;
}

/// What the model's attention would take of some micro-batches.
struct TriedAttention {
  at::Tensor qkv;                  // random, of one micro-batch
  std::vector<at::Tensor> starts;  // of each
  kernels::RotaryTable rotary;
};

TriedAttention attention_to_try(const TrainingConfig& config, const data::Batch& rows, int64_t micro_rows,
                                at::Device device) {
  GATO_CHECK(micro_rows >= 1 && micro_rows <= rows.rows, micro_rows, " rows at once of ", rows.rows);
  const model::ModelConfig& shape = config.model;
  const auto type = shape.precision == model::Precision::kBf16 ? at::kBFloat16 : at::kFloat;
  TriedAttention tried;
  tried.qkv = at::randn({micro_rows, rows.row_tokens, 3, shape.heads, shape.head_dim}).to(device, type);
  for (int64_t first = 0; first + micro_rows <= rows.rows; first += micro_rows) {
    tried.starts.push_back(batch_tensors(rows, first, micro_rows).input.sequence_starts.clone().to(device));
  }
  if (shape.position == model::PositionEncoding::kRotary) {
    tried.rotary = kernels::make_rotary_table(rows.row_tokens, shape.head_dim, shape.rotary_base);
    tried.rotary = {tried.rotary.cosine.to(device), tried.rotary.sine.to(device)};
  }
  return tried;
}

}  // namespace

std::string to_json(const AttentionRecord& record) {
  Json json;
  json["device"] = record.device;
  json["route"] = kernels::route_name(record.route);
  json["own_is_proven"] = record.own_is_proven;
  json["trials"] = Json::array();
  for (const kernels::AttentionTrial& trial : record.trials) {
    Json entry;
    entry["route"] = kernels::route_name(trial.route);
    if (trial.problem.empty()) {
      entry["milliseconds"] = trial.milliseconds;
      entry["difference"] = trial.difference;
    } else {
      entry["problem"] = trial.problem;
    }
    json["trials"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

std::optional<AttentionRecord> read_attention_record(const Path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const Json json = parse_json(read_file(path), path.string());
    AttentionRecord record;
    record.device = json.value("device", "");
    const auto route = route_named(json.value("route", ""));
    if (!record.device.empty() && route && *route != kernels::AttentionRoute::kAuto) {
      record.route = *route;
      return record;
    }
  } catch (const std::exception& error) {
    log::warning("train", path.string(), " is not used: ", error.what());
  }
  return std::nullopt;
}

void check_attention_setting(const TrainingConfig& config, at::Device device) {
  using kernels::AttentionRoute;
  const AttentionRoute route = config.kernels.attention;
  const model::ModelConfig& shape = config.model;
  const bool is_library = route == AttentionRoute::kFlash || route == AttentionRoute::kCudnn;
  std::vector<std::string> needs;
  if (is_library && device.is_cpu()) needs.emplace_back("a GPU (train.device)");
  if (is_library && shape.position == model::PositionEncoding::kRelative) {
    needs.emplace_back("model.position rotary or none (relative is computed by plain operations)");
  }
  if (is_library ||
      (route == AttentionRoute::kOwn && !device.is_cpu() && shape.position != model::PositionEncoding::kRelative)) {
    if (shape.precision != model::Precision::kBf16) needs.emplace_back("model.precision: bf16");
    const int64_t d = shape.head_dim;
    if (route == AttentionRoute::kOwn && d != 32 && d != 64 && d != 128) {
      needs.push_back(cat("model.head_dim 32, 64 or 128, not ", d));
    }
  }
  if (needs.empty()) return;
  throw ConfigError(cat("kernels.attention: ", kernels::route_name(route), " on ", device.str(), " needs ",
                        join(needs, " and "), "; auto takes what there is"));
}

std::optional<kernels::AttentionRoute> recorded_route(const Path& path, const std::string& gpu_name,
                                                      bool own_is_proven) {
  const auto record = read_attention_record(path);
  if (!record || record->device != gpu_name) return std::nullopt;
  if (record->route == kernels::AttentionRoute::kOwn && !own_is_proven) return std::nullopt;
  return record->route;
}

void set_attention(const TrainingConfig& config, at::Device device, const Path& record) {
  check_attention_setting(config, device);
  kernels::AttentionRoute route = config.kernels.attention;
  if (route == kernels::AttentionRoute::kAuto && !device.is_cpu() && !record.empty()) {
    route = recorded_route(record, kernels::gpu_properties(device).name, kernels::kernels_are_proven(device))
                .value_or(route);
  }
  kernels::set_attention_route(route);
}

std::string attention_table(const AttentionRecord& record) {
  std::string text;
  for (const kernels::AttentionTrial& trial : record.trials) {
    text += cat(
        "  ", kernels::route_name(trial.route), ": ",
        trial.problem.empty() ? cat(format_fixed(trial.milliseconds, 3), " ms forward and backward") : trial.problem,
        "\n");
  }
  if (!record.own_is_proven) {
    text += "  (own kernels are taken once `tools/test --gpu` has passed on this kind of GPU)\n";
  }
  return text;
}

void check_named_route(const TrainingConfig& config, const data::Batch& rows, at::Device device) {
  using kernels::AttentionRoute;
  const AttentionRoute route = config.kernels.attention;
  if (!kernels::has_device_operations(device) || route == AttentionRoute::kAuto ||
      route == AttentionRoute::kReference || config.model.position == model::PositionEncoding::kRelative) {
    return;
  }
  const TriedAttention tried = attention_to_try(config, rows, 1, device);
  const kernels::AttentionTrial trial =
      kernels::check_attention_route(route, tried.qkv, tried.starts.front(), tried.rotary);
  if (trial.problem.empty()) return;
  throw ConfigError(cat("kernels.attention: ", kernels::route_name(route), " cannot be used on ", device.str(),
                        " for rows of ", rows.row_tokens, " tokens and ", config.model.heads, " heads of ",
                        config.model.head_dim, ": it ", trial.problem, "; auto takes what is right"));
}

std::vector<kernels::AttentionTrial> try_attention(const TrainingConfig& config, const data::Batch& rows,
                                                   int64_t micro_rows, at::Device device) {
  const TriedAttention tried = attention_to_try(config, rows, micro_rows, device);
  return kernels::try_attention_routes(tried.qkv, tried.starts, tried.rotary, kernels::kernels_are_proven(device));
}

}  // namespace gato::train

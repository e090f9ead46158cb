#include "episode/import/import_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr int64_t kVersion = 1;

void add_field(std::string& text, const FieldSpec& field) {
  text += cat("|", field.name, ";", static_cast<int>(field.modality), ";", field.num_values, ";",
              static_cast<int>(field.codec), ";", field.unit);
  for (const int64_t side : field.shape) text += cat(",", side);
  // The bytes of the bounds: decimal digits would round.
  for (const auto* bounds : {&field.low, &field.high}) {
    text +=
        cat(";", bounds->size(), ";",
            digest128(std::string_view(reinterpret_cast<const char*>(bounds->data()), bounds->size() * sizeof(float))));
  }
}

std::string digest_of_tasks(const std::vector<TaskSpec>& tasks) {
  std::string text;
  for (const TaskSpec& task : tasks) {
    text += cat("#", task.id, ";", task.description, ";", static_cast<int>(task.scoring), ";", task.partial_view, ";",
                task.max_steps, ";", task.licence, "|observation");
    for (const FieldSpec& field : task.observation) add_field(text, field);
    text += "|action";
    for (const FieldSpec& field : task.action) add_field(text, field);
  }
  return digest128(text);
}

std::string digest_of_units(const std::vector<ImportUnit>& units) {
  std::string text;
  for (const ImportUnit& unit : units) text += cat(unit.name, "\n", unit.bytes, "\n");
  return digest128(text);
}

Json json_of(const ImportState& state) {
  Json json;
  json["version"] = kVersion;
  json["complete"] = state.complete;
  json["written"] = state.written;
  for (const auto& [name, value] : state.identity) json["identity"][name] = value;
  json["position"] = {{"unit", state.position.unit}, {"record", state.position.record}, {"part", state.position.part}};
  json["records"] = state.summary.records;
  json["episodes"] = state.summary.episodes;
  json["steps"] = state.summary.steps;
  json["mapping"] = state.summary.mapping;
  json["left_out"] = Json::array();
  for (const auto& [reason, drop] : state.summary.dropped) {
    json["left_out"].push_back({{"reason", reason}, {"count", drop.count}, {"first", drop.first}});
  }
  json["shards"] = Json::array();
  for (const CommittedShard& shard : state.shards) {
    json["shards"].push_back({{"file", shard.file}, {"fingerprint", shard.fingerprint}});
  }
  return json;
}

std::string text_of(const Json& json, const std::string& where) {
  if (!json.is_string()) throw DataError(cat(where, ": must be a text"));
  return json.get<std::string>();
}

ImportState state_of(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  static_cast<void>(fields.integer("version", kVersion, kVersion));
  ImportState state;
  state.complete = fields.boolean("complete");
  state.written = fields.boolean("written");
  for (const auto& [name, value] : fields.object("identity").items()) {
    state.identity.emplace_back(name, text_of(value, cat(where, ": identity.", name)));
  }
  JsonFields position(fields.object("position"), where + ": position");
  state.position = {position.unsigned_integer("unit"), position.unsigned_integer("record"),
                    position.unsigned_integer("part")};
  position.finish();
  state.summary.records = fields.integer("records", 0);
  state.summary.episodes = fields.integer("episodes", 0);
  state.summary.steps = fields.integer("steps", 0);
  for (const Json& line : fields.array("mapping")) state.summary.mapping.push_back(text_of(line, where + ": mapping"));
  for (const Json& item : fields.array("left_out")) {
    JsonFields drop(item, where + ": left_out");
    state.summary.dropped[drop.text("reason")] = {drop.integer("count", 1), drop.text("first")};
    drop.finish();
  }
  for (const Json& item : fields.array("shards")) {
    JsonFields shard(item, where + ": shards");
    state.shards.push_back({shard.text("file"), shard.text("fingerprint")});
    shard.finish();
  }
  fields.finish();
  state.summary.shards = static_cast<int64_t>(state.shards.size());
  return state;
}

}  // namespace

ImportIdentity identity_of(const ForeignFormat& format, const std::vector<ImportUnit>& units,
                           const ImportOptions& options) {
  return {{"name", options.info.name},
          {"description", options.info.description},
          {"licence", options.info.licence},
          {"arguments", options.arguments},
          {"limit", cat(options.limit)},
          {"shard size", cat(options.shard_bytes)},
          {"content filter", options.content_filter_digest},
          {"tasks", digest_of_tasks(format.tasks())},
          {"mapping", digest128(join(format.mapping(), "\n"))},
          {"source files", digest_of_units(units)}};
}

std::optional<ImportState> load_import_state(const Path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  const std::string where = path.string();
  return state_of(parse_json(read_file(path, uint64_t{64} << 20), where), where);
}

void save_import_state(const Path& path, const ImportState& state) {
  // Messages may hold bytes of damaged data.
  write_file_atomic(path, json_of(state).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void check_same_import(const Path& path, const ImportIdentity& found, const ImportIdentity& wanted) {
  if (found == wanted) return;
  std::vector<std::string> different;
  for (const auto& entry : wanted) {
    if (std::find(found.begin(), found.end(), entry) == found.end()) different.push_back(entry.first);
  }
  throw ConfigError(cat(path.string(), ": the folder holds another import (different: ", join(different, ", "),
                        "); choose another --out, or remove the folder to import anew"));
}

}  // namespace gato::episode

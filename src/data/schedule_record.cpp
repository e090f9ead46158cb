#include <nlohmann/json.hpp>
#include <type_traits>

#include "gato/core/error.h"
#include "gato/core/json_fields.h"
#include "gato/data/schedule.h"

namespace gato::data {
namespace {

constexpr int64_t kScheduleVersion = 1;

/// The values of a configuration struct as JSON, which is YAML too: read_config reads it back.
template <class T>
Json value_json(const T& value) {
  if constexpr (std::is_same_v<T, WindowSteps>) {
    if (value.row) return "row";
    return value.low == value.high ? Json(value.low) : Json::array({value.low, value.high});
  } else if constexpr (detail::IsVector<T>::value) {
    Json list = Json::array();
    for (const auto& item : value) list.push_back(value_json(item));
    return list;
  } else if constexpr (detail::HasConfigFields<T>::value) {
    Json object = Json::object();
    visit_fields(value, [&](const char* name, const auto& field, const char*) { object[name] = value_json(field); });
    return object;
  } else {
    return value;
  }
}

RecordedSource read_source(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  RecordedSource source;
  source.id = fields.text("id");
  const Json& shards = fields.array("shards");
  for (size_t i = 0; i < shards.size(); ++i) {
    JsonFields shard(shards[i], cat(where, ".shards[", i, "]"));
    source.shards.push_back({shard.text("file"), shard.text("fingerprint")});
    shard.finish();
  }
  fields.finish();
  return source;
}

std::vector<MixtureEntry> read_mixture(const Json& json, const std::string& where) {
  try {
    return read_config<MixtureFile>(parse_yaml(Json{{"mixture", json}}.dump(), where)).mixture;
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
}

RecordedPhase read_phase(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  RecordedPhase phase;
  phase.first_row = fields.integer("first_row", 0, int64_t{1} << 50);
  phase.allow_missing = fields.boolean("allow_missing");
  phase.mixture = read_mixture(fields.array("mixture"), cat(where, ".mixture"));
  const Json& sources = fields.array("sources");
  for (size_t i = 0; i < sources.size(); ++i) {
    phase.sources.push_back(read_source(sources[i], cat(where, ".sources[", i, "]")));
  }
  fields.finish();
  return phase;
}

}  // namespace

std::string to_json(const ScheduleRecord& record) {
  Json phases = Json::array();
  for (const RecordedPhase& phase : record.phases) {
    Json sources = Json::array();
    for (const RecordedSource& source : phase.sources) {
      Json shards = Json::array();
      for (const RecordedShard& shard : source.shards) {
        shards.push_back({{"file", shard.file}, {"fingerprint", shard.fingerprint}});
      }
      sources.push_back({{"id", source.id}, {"shards", std::move(shards)}});
    }
    phases.push_back({{"first_row", phase.first_row},
                      {"allow_missing", phase.allow_missing},
                      {"mixture", value_json(phase.mixture)},
                      {"sources", std::move(sources)}});
  }
  return Json{{"version", kScheduleVersion}, {"phases", std::move(phases)}}.dump(2) + "\n";
}

ScheduleRecord parse_schedule_record(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  if (const int64_t version = fields.integer("version"); version != kScheduleVersion) {
    fields.fail("version", cat("is ", version, ", but this program reads version ", kScheduleVersion));
  }
  ScheduleRecord record;
  const Json& phases = fields.array("phases");
  for (size_t i = 0; i < phases.size(); ++i) {
    record.phases.push_back(read_phase(phases[i], cat(origin, ": phases[", i, "]")));
    if (i > 0 && record.phases[i].first_row <= record.phases[i - 1].first_row) {
      fields.fail("phases",
                  cat("must begin one after another, but number ", i, " begins at row ", record.phases[i].first_row));
    }
  }
  fields.finish();
  return record;
}

}  // namespace gato::data

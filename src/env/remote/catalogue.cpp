#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>

#include "env/remote/worker.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/env/native_family.h"
#include "gato/env/remote.h"
#include "gato/env/suite.h"

namespace gato::env {

namespace {

using episode::FieldSpec;
using episode::Modality;
using episode::ReturnRecord;
using episode::TaskSpec;

constexpr int64_t kCatalogueVersion = 1;
constexpr uint64_t kMaxCatalogueBytes = uint64_t{16} << 20;

// ----------------------------------------------------------------------------------------------------------------
// write

/// As people write it: 0.1 and not 0.10000000149011612.
Json to_json(float number) {
  std::array<char, 32> digits{};
  const char* end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  return Json::parse(std::string(static_cast<const char*>(digits.data()), end));
}

template <class Number>
Json list_of(const std::vector<Number>& numbers) {
  Json list = Json::array();
  for (const Number& number : numbers) {
    if constexpr (std::is_same_v<Number, float>) {
      list.push_back(to_json(number));
    } else {
      list.push_back(number);
    }
  }
  return list;
}

Json to_json(const FieldSpec& field) {
  Json json = {{"name", field.name}, {"modality", std::string(episode::modality_name(field.modality))}};
  if (!field.shape.empty()) json["shape"] = list_of(field.shape);
  if (field.num_values > 0) json["num_values"] = field.num_values;
  if (!field.low.empty()) json["low"] = list_of(field.low);
  if (!field.high.empty()) json["high"] = list_of(field.high);
  if (!field.unit.empty()) json["unit"] = field.unit;
  return json;
}

Json to_json(const std::vector<FieldSpec>& fields) {
  Json list = Json::array();
  for (const FieldSpec& field : fields) list.push_back(to_json(field));
  return list;
}

Json to_json(const ReturnRecord& record, const std::optional<double>& success, int64_t failures) {
  Json json = {{"mean", record.mean}, {"standard_error", record.standard_error}, {"episodes", record.episodes}};
  if (success) json["success"] = *success;
  if (failures > 0) json["failures"] = failures;
  return json;
}

Json to_json(const RemoteTask& task) {
  Json json = {{"id", task.spec.id},
               {"description", task.spec.description},
               {"observation", to_json(task.spec.observation)},
               {"action", to_json(task.spec.action)},
               {"max_steps", task.spec.max_steps},
               {"partial_view", task.spec.partial_view},
               {"has_expert", task.has_expert}};
  if (task.spec.expert.episodes > 0 || task.expert_failures > 0) {
    json["expert"] = to_json(task.spec.expert, task.expert_success, task.expert_failures);
  }
  if (task.spec.random.episodes > 0 || task.random_failures > 0) {
    json["random"] = to_json(task.spec.random, task.random_success, task.random_failures);
  }
  return json;
}

// -----------------------------------------------------------------------------------------------------------------
// read

std::vector<float> read_floats(const Json& list, const std::string& where) {
  std::vector<float> numbers;
  for (const Json& number : list) {
    if (!number.is_number()) throw DataError(cat(where, ": a bound is not a number"));
    numbers.push_back(number.get<float>());
  }
  return numbers;
}

FieldSpec read_field(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  FieldSpec field;
  field.name = fields.text("name");
  field.modality = static_cast<Modality>(fields.choice("modality", {"text", "image", "discrete", "continuous"}));
  if (fields.has("shape")) {
    for (const Json& size : fields.array("shape")) {
      if (!size.is_number_integer()) throw DataError(cat(where, ".shape: a size is not a whole number"));
      field.shape.push_back(size.get<int64_t>());
    }
  }
  if (fields.has("num_values")) field.num_values = fields.integer("num_values", 1, 1 << 20);
  if (fields.has("low")) field.low = read_floats(fields.array("low"), where);
  if (fields.has("high")) field.high = read_floats(fields.array("high"), where);
  if (fields.has("unit")) field.unit = fields.text("unit");
  fields.finish();
  return field;
}

std::vector<FieldSpec> read_fields(const Json& list, const std::string& where) {
  std::vector<FieldSpec> fields;
  for (const Json& field : list) fields.push_back(read_field(field, cat(where, "[", fields.size(), "]")));
  return fields;
}

void read_record(const Json& json, const std::string& where, ReturnRecord& record, std::optional<double>& success,
                 int64_t& failures) {
  JsonFields fields(json, where);
  record.mean = fields.number("mean");
  record.standard_error = fields.number("standard_error");
  record.episodes = fields.integer("episodes", 0);
  if (fields.has("success")) success = fields.number("success");
  if (fields.has("failures")) failures = fields.integer("failures", 1);
  fields.finish();
}

RemoteTask read_task(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  RemoteTask task;
  TaskSpec& spec = task.spec;
  spec.id = fields.text("id");
  spec.description = fields.text("description");
  spec.observation = read_fields(fields.array("observation"), where + ".observation");
  spec.action = read_fields(fields.array("action"), where + ".action");
  spec.max_steps = fields.integer("max_steps", 0, int64_t{1} << 31);
  spec.partial_view = fields.boolean("partial_view");
  task.has_expert = fields.boolean("has_expert");
  if (fields.has("expert")) {
    read_record(fields.object("expert"), where + ".expert", spec.expert, task.expert_success, task.expert_failures);
  }
  if (fields.has("random")) {
    read_record(fields.object("random"), where + ".random", spec.random, task.random_success, task.random_failures);
  }
  fields.finish();
  try {
    check_task_spec(spec);
  } catch (const ConfigError& error) {
    throw DataError(cat(where, ": ", error.what()));
  }
  return task;
}

std::vector<RemoteFamily> read_families() {
  std::vector<RemoteFamily> families;
  Path folder;
  try {
    folder = Path(data_root()) / "data" / "environments";
  } catch (const ConfigError& error) {  // tasks of this process need no files to be listed
    log::debug("env", "no environments of Python packages: ", error.what());
    return families;
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != ".json") continue;
    const std::string file = entry.path().string();
    families.push_back(parse_catalogue(read_file(file, kMaxCatalogueBytes), file));
    if (families.back().name != entry.path().stem().string()) {
      throw DataError(cat(file, ": holds the family '", families.back().name, "'"));
    }
  }
  std::sort(families.begin(), families.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return families;
}

// ---------------------------------------------------------------------------------------------------------------
// limits

std::mutex limits_mutex;
std::optional<RemoteLimits> limits_set;

/// A number of the environment, or `otherwise`; ConfigError for anything that is not above 0.
double number_setting(const char* name, double otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*end != '\0' || !(value > 0 && value <= 1e9)) {
    throw ConfigError(cat(name, " is '", text, "'; a number above 0 is needed."));
  }
  return value;
}

}  // namespace

const std::vector<RemoteFamily>& remote_families() {
  static const std::vector<RemoteFamily> families = read_families();
  return families;
}

std::map<std::string, std::string> packages_of(const std::string& task) {
  for (const RemoteFamily& family : remote_families()) {
    const auto is_it = [&](const RemoteTask& known) { return known.spec.id == task; };
    if (std::any_of(family.tasks.begin(), family.tasks.end(), is_it)) return family.packages;
  }
  return native_packages_of(task);
}

Path catalogue_path(const std::string& root, const std::string& family) {
  const Path folder = Path(root) / "data" / "environments";
  return (is_native_family(family) ? folder / "native" : folder) / (family + ".json");
}

std::string to_json(const RemoteFamily& family) {
  std::string text =
      cat("{\n  \"version\": ", kCatalogueVersion, ",\n  \"family\": ", Json(family.name).dump(),
          ",\n  \"packages\": ", Json(family.packages).dump(), ",\n  \"seed\": ", family.seed, ",\n  \"tasks\": [\n");
  for (size_t i = 0; i < family.tasks.size(); ++i) {
    text += cat("    ", to_json(family.tasks[i]).dump(), i + 1 < family.tasks.size() ? ",\n" : "\n");
  }
  return text + "  ]\n}\n";
}

RemoteFamily parse_catalogue(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  RemoteFamily family;
  if (fields.integer("version") != kCatalogueVersion) fields.fail("version", "is not one this program knows");
  family.name = fields.text("family");
  for (const auto& [name, version] : fields.object("packages").items()) {
    if (!version.is_string()) fields.fail("packages", cat("the version of '", name, "' is not a text"));
    family.packages.emplace(name, version.get<std::string>());
  }
  family.seed = fields.unsigned_integer("seed");
  for (const Json& task : fields.array("tasks")) {
    family.tasks.push_back(read_task(task, cat(origin, ": tasks[", family.tasks.size(), "]")));
    const size_t count = family.tasks.size();
    if (count > 1 && family.tasks[count - 2].spec.id >= family.tasks[count - 1].spec.id) {
      throw DataError(cat(origin, ": task '", family.tasks.back().spec.id, "' is not in order, or there twice"));
    }
  }
  fields.finish();
  return family;
}

bool expert_is_better(const TaskSpec& spec) {
  const double error = std::hypot(spec.expert.standard_error, spec.random.standard_error);
  return spec.expert.mean - spec.random.mean > std::max(2 * error, 1e-9);
}

void set_remote_limits(const RemoteLimits& limits) {
  if (!(limits.call_seconds > 0 && limits.start_seconds > 0) || limits.memory_mb < 1 || limits.cpu_seconds < 1 ||
      limits.open_files < 16 || limits.spare_restarts < 0) {
    throw ConfigError("The limits of workers for environments must be above 0, and open files at least 16.");
  }
  const std::lock_guard lock(limits_mutex);
  limits_set = limits;
}

RemoteLimits remote_limits() {
  const std::lock_guard lock(limits_mutex);
  if (limits_set) return *limits_set;
  RemoteLimits limits;
  limits.call_seconds = number_setting("GATO_ENV_CALL_SECONDS", limits.call_seconds);
  limits.memory_mb =
      static_cast<int64_t>(std::max(1.0, number_setting("GATO_ENV_MEMORY_MB", static_cast<double>(limits.memory_mb))));
  return limits;
}

namespace {

Path expected_python(const std::string& family) {
  const char* const setting = std::getenv("GATO_DEPS_DIR");
  const Path deps = setting != nullptr && *setting != '\0' ? Path(setting) : Path(data_root()) / ".deps";
  // Through the link of the virtual environment: its target is a Python without the packages.
  return std::filesystem::absolute(deps) / ("env-" + family) / "bin" / "python";
}

}  // namespace

bool family_is_set_up(const std::string& family) { return ::access(expected_python(family).c_str(), X_OK) == 0; }

Path family_python(const std::string& family) {
  const Path python = expected_python(family);
  if (::access(python.c_str(), X_OK) == 0) return python;
  throw ConfigError(cat("The environments of ", family, " are played by their Python package, and ", python.string(),
                        " is not there: run tools/setup --envs ", family,
                        ", or set GATO_DEPS_DIR to the folder that it filled."));
}

RemoteFamily ask_family(const std::string& name) {
  std::unique_ptr<remote::Worker> worker = remote::borrow_worker(name);
  RemoteFamily family;
  family.name = name;
  family.packages = worker->packages();
  for (remote::TaskOffer& offer : worker->long_call<remote::Tasks>(remote::ListTasks{}).tasks) {
    RemoteTask task;
    task.spec = std::move(offer.spec);
    task.has_expert = offer.has_expert;
    family.tasks.push_back(std::move(task));
  }
  remote::return_worker(std::move(worker));
  std::sort(family.tasks.begin(), family.tasks.end(),
            [](const RemoteTask& a, const RemoteTask& b) { return a.spec.id < b.spec.id; });
  return family;
}

}  // namespace gato::env

#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/run/evaluation_plan.h"

/// What plans and batches of jobs have in common in their files.
namespace gato::run {

inline constexpr int64_t kMaxRollouts = 10'000'000;  ///< Of a task; seeds of as many fit into memory.
inline constexpr int64_t kMaxSlots = 1 << 20;

[[nodiscard]] bool is_prompt_name(std::string_view name);
[[nodiscard]] bool is_weights_name(std::string_view name);

[[nodiscard]] Json settings_json(const PlaySettings& settings);
[[nodiscard]] PlaySettings parse_settings(const Json& json, const std::string& where);

[[nodiscard]] Json planned_task_json(const PlannedTask& task);
[[nodiscard]] PlannedTask parse_planned_task(const Json& json, const std::string& where);
[[nodiscard]] PlannedTask planned_task_of(JsonFields& fields);  ///< Among other entries.

}  // namespace gato::run

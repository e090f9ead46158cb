#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/text.h"
#include "gato/episode/shard.h"

/// The groups of fields of a task, for what handles them alike.
namespace gato::episode {

constexpr std::array<Group, 3> kGroups = {Group::kObservation, Group::kAction, Group::kLabel};

inline std::string_view group_name(Group group) {
  constexpr std::array<std::string_view, kGroups.size()> kNames = {"observation", "action", "label"};
  return kNames[static_cast<size_t>(group)];
}

/// Labels are values of the action's fields.
inline const std::vector<FieldSpec>& fields_of(const TaskSpec& task, Group group) {
  return group == Group::kObservation ? task.observation : task.action;
}

/// "control/cartpole observation/angle".
inline std::string column_name(const TaskSpec& task, Group group, const FieldSpec& field) {
  return cat(task.id, " ", group_name(group), "/", field.name);
}

}  // namespace gato::episode

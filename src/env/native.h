#pragma once
#include <memory>
#include <vector>

#include "gato/env/environment.h"

/// The native tasks by family; registry.cpp puts them together. Each list is made once per process.
namespace gato::env {

std::vector<TaskEntry> control_tasks();
std::vector<TaskEntry> grid_tasks();
std::vector<TaskEntry> game_tasks();
std::vector<TaskEntry> block_tasks();
std::vector<TaskEntry> picture_tasks();
std::vector<TaskEntry> dialogue_tasks();
std::vector<TaskEntry> mujoco_tasks();

/// For tasks whose one action is a text: gives the environment's reference answer.
[[nodiscard]] std::unique_ptr<Expert> make_answering_expert(Environment& environment);

}  // namespace gato::env

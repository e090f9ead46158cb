#pragma once
#include <vector>

#include "gato/env/environment.h"

/// The native tasks by family; registry.cpp puts them together. Each list is made once per process.
namespace gato::env {

std::vector<TaskEntry> control_tasks();
std::vector<TaskEntry> grid_tasks();
std::vector<TaskEntry> game_tasks();
std::vector<TaskEntry> picture_tasks();

}  // namespace gato::env

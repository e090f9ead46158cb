#pragma once
#include <string>
#include <vector>

#include "gato/eval/talk.h"
#include "media.h"

namespace gato::eval {

/// Beginnings of held-out documents of a text task that the checkpoint carries, how the agent goes on, and how they
/// went on: at most `most`, the same for the same checkpoint.
[[nodiscard]] std::vector<MediaItem> text_samples(const Agent& agent, const std::string& task, size_t most);

/// Writes a few of them beside the result of a text task, for the report.
void keep_text_samples(const Path& results, const Agent& agent, const std::string& task);

}  // namespace gato::eval

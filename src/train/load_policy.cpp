#include "load_policy.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>

#include "gato/checkpoint/tensor_set.h"
#include "gato/core/log.h"
#include "gato/run/run_folder.h"

namespace gato::train {
namespace {

namespace fs = std::filesystem;
using checkpoint::CheckpointInfo;

constexpr int64_t kNone = -1;

/// Whether anything in `folder` is or was a checkpoint.
bool had_checkpoints(const Path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const size_t dot = name.find('.');
    const bool counts = dot == std::string::npos || name.compare(dot, 9, ".damaged-") == 0;
    if (counts && checkpoint::parse_step_name(name.substr(0, dot))) return true;
  }
  return false;
}

/// The newest valid checkpoint below step `below`; damaged ones are set aside.
int64_t newest_below(const Path& folder, int64_t below) {
  for (const CheckpointInfo& info : checkpoint::list_checkpoints(folder)) {
    if (info.step >= below) continue;
    const auto damages = checkpoint::verify_checkpoint(info.path);
    if (damages.empty()) return info.step;
    checkpoint::set_damaged_aside(info, damages);
  }
  return kNone;
}

/// What is wrong with the checkpoint as this process sees it; "" when it is all there.
std::string problem_here(const Path& folder, int64_t step) {
  const auto damages =
      checkpoint::verify_checkpoint(folder / checkpoint::step_name(step), checkpoint::VerifyDepth::kSizes);
  return damages.empty() ? "" : checkpoint::summary_of(damages);
}

int64_t parse_step(const std::string& text) {
  int64_t step = kNone;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), step);
  GATO_CHECK(parsed.ec == std::errc() && parsed.ptr == text.data() + text.size(), "rank 0 sent \"", text,
             "\" as a step");
  return step;
}

/// Tells of ranks that do not see the checkpoint; whether all do.
bool all_agree(const std::vector<std::string>& problems, const Path& path) {
  bool agree = true;
  for (size_t rank = 0; rank < problems.size(); ++rank) {
    if (problems[rank].empty()) continue;
    agree = false;
    log::warning("train", "rank ", rank, " cannot use ", path.string(), ": ", problems[rank],
                 "; an older checkpoint is tried. All processes must see the same disk");
  }
  return agree;
}

}  // namespace

std::optional<CheckpointInfo> choose_checkpoint(const Path& folder, SaveRank place, const GatherTexts& gather) {
  const GatherTexts all = gather ? gather : [](const std::string& text) { return std::vector<std::string>{text}; };
  // A replacement that was cut short gives the former checkpoint its name back.
  if (place.rank == 0) checkpoint::clean_checkpoints(folder);
  for (int64_t below = INT64_MAX;;) {
    const std::string own = place.rank == 0 ? std::to_string(newest_below(folder, below)) : "";
    const int64_t step = parse_step(all(own).front());
    if (step == kNone) break;
    const Path path = folder / checkpoint::step_name(step);
    if (all_agree(all(place.rank == 0 ? "" : problem_here(folder, step)), path)) return CheckpointInfo{step, path};
    below = step;
  }
  const auto had = all(place.rank == 0 && had_checkpoints(folder) ? "some" : "");
  if (had.front().empty()) return std::nullopt;
  throw CheckpointError(cat(folder.string(),
                            ": none of the checkpoints there can be used (the warnings say why), and a "
                            "run does not begin anew over them; give run.dir another folder, or move them away"));
}

Path find_initial_weights(const Path& from) {
  const run::RunFolder folder(from);
  if (!fs::is_directory(folder.checkpoints_path())) return from;
  const auto newest = checkpoint::newest_valid(folder.checkpoints_path());
  if (!newest) throw ConfigError(cat(from.string(), ": the run has no valid checkpoint"));
  return newest->path;
}

namespace {

checkpoint::TensorSet open_weights(const Path& from) {
  if (fs::exists(from / checkpoint::kManifestName)) {
    const auto damages = checkpoint::verify_checkpoint(from);
    if (!damages.empty()) {
      throw CheckpointError(cat(from.string(), " is damaged: ", checkpoint::summary_of(damages), "; use another one"));
    }
  }
  return checkpoint::TensorSet(from);
}

bool is_wanted(const InitialWeights& weights, const std::string& name) {
  const auto matches = [&](const std::string& pattern) { return matches_pattern(pattern, name); };
  return std::any_of(weights.include.begin(), weights.include.end(), matches) &&
         std::none_of(weights.exclude.begin(), weights.exclude.end(), matches);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(cat(size));
  return "[" + join(sizes, ", ") + "]";
}

/// The parameters that can be taken; `problems` receives the others, and what is left over.
std::vector<const model::Segment*> match(const InitialWeights& weights, const model::ParameterStore& store,
                                         const checkpoint::TensorSet& tensors, std::vector<std::string>& problems) {
  std::vector<const model::Segment*> fitting;
  size_t wanted = 0;
  for (const model::Segment& segment : store.segments()) {
    if (!is_wanted(weights, segment.name)) continue;
    ++wanted;
    if (!tensors.has(segment.name)) {
      problems.push_back(cat("missing: ", segment.name, " ", shape_text(segment.shape)));
    } else if (const auto& info = tensors.info(segment.name); info.shape != segment.shape) {
      problems.push_back(cat("another shape: ", segment.name, " ", shape_text(info.shape), ", the model has ",
                             shape_text(segment.shape)));
    } else {
      fitting.push_back(&segment);
    }
  }
  if (wanted == 0) throw ConfigError("train.init_include and train.init_exclude leave no parameter of the model");
  for (const std::string& name : tensors.names()) {
    if (store.find(name) == nullptr && is_wanted(weights, name))
      problems.push_back(cat("unexpected: ", name, " ", shape_text(tensors.info(name).shape)));
  }
  return fitting;
}

}  // namespace

std::string load_initial_weights(const InitialWeights& weights, model::Model& model) {
  const checkpoint::TensorSet tensors = open_weights(weights.from);
  std::vector<std::string> problems;
  const auto fitting = match(weights, model.store(), tensors, problems);
  const std::string listed = problems.empty() ? "" : "\n  " + join(problems, "\n  ");
  if (weights.strict && !problems.empty()) {
    throw CheckpointError(
        cat(tensors.path().string(), " does not fit the model (", problems.size(),
            " differences); leave parameters out by train.init_include and train.init_exclude, or take "
            "what fits by train.init_strict=false:",
            listed));
  }
  // Everything is read before anything is changed.
  std::vector<at::Tensor> read;
  for (const model::Segment* segment : fitting) {
    const auto& info = tensors.info(segment->name);
    const std::string where = cat(tensors.file_of(segment->name).string(), ": ", segment->name);
    if (!info.dtype) throw CheckpointError(cat(where, ": values of unknown type ", info.dtype_name));
    const auto values = checkpoint::to_floats(*info.dtype, tensors.read(segment->name), where);
    read.push_back(at::empty({segment->size}, at::kFloat));
    std::copy(values.begin(), values.end(), read.back().mutable_data_ptr<float>());
  }
  for (size_t i = 0; i < fitting.size(); ++i) model.store().assign(*fitting[i], read[i]);
  if (!problems.empty()) {
    log::warning("train", tensors.path().string(),
                 " fits the model in part; these keep their random values or are left ", "over:", listed);
  }
  return cat(fitting.size(), " of ", model.store().segments().size(), " parameters are from ", tensors.path().string());
}

}  // namespace gato::train

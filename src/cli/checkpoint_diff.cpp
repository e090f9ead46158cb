#include "checkpoint_diff.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/checkpoint/manifest.h"
#include "gato/checkpoint/tensor_set.h"
#include "gato/core/config.h"
#include "gato/core/json.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;
using checkpoint::TensorSet;

using Leaves = std::map<std::string, std::string>;

void add_leaves(const ConfigNode& node, const std::string& path, Leaves& leaves) {
  switch (node.kind) {
    case ConfigNode::Kind::kMap:
      for (const ConfigEntry& entry : node.map) {
        add_leaves(entry.value, path.empty() ? entry.key : cat(path, ".", entry.key), leaves);
      }
      return;
    case ConfigNode::Kind::kList:
      for (size_t i = 0; i < node.list.size(); ++i) add_leaves(node.list[i], cat(path, "[", i, "]"), leaves);
      return;
    case ConfigNode::Kind::kNull:
      leaves[path] = "null";
      return;
    case ConfigNode::Kind::kScalar:
      leaves[path] = node.scalar;
  }
}

Leaves config_of(const Path& folder) {
  Leaves leaves;
  const Path file = folder / "config.yaml";
  if (fs::exists(file)) add_leaves(load_yaml(file.string()), "", leaves);
  return leaves;
}

Leaves state_of(const Path& folder) {
  Leaves leaves;
  const Path file = folder / "training_state.json";
  if (!fs::exists(file)) return leaves;
  const Json json = parse_json(read_file(file), file.string());
  for (const auto& entry : json.items()) leaves[entry.key()] = entry.value().dump();
  return leaves;
}

std::vector<std::string> changes(const Leaves& a, const Leaves& b) {
  std::set<std::string> keys;
  for (const auto& [key, value] : a) keys.insert(key);
  for (const auto& [key, value] : b) keys.insert(key);
  const auto value_of = [](const Leaves& leaves, const std::string& key) {
    const auto found = leaves.find(key);
    return found == leaves.end() ? std::string("(none)") : found->second;
  };
  std::vector<std::string> changed;
  if (a.empty() || b.empty()) return changed;
  for (const std::string& key : keys) {
    if (value_of(a, key) != value_of(b, key))
      changed.push_back(cat(key, ": ", value_of(a, key), " -> ", value_of(b, key)));
  }
  return changed;
}

std::string describe(const checkpoint::TensorInfo& info) {
  std::vector<std::string> sizes;
  for (const int64_t size : info.shape) sizes.push_back(cat(size));
  return cat(info.dtype_name, " [", join(sizes, ", "), "]");
}

TensorDifference difference_of(const std::string& name, std::span<const float> a, std::span<const float> b) {
  TensorDifference difference{name};
  double squares = 0, squares_a = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares_a += static_cast<double>(a[i]) * a[i];
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double gap = static_cast<double>(a[i]) - b[i];
    difference.max_abs = std::isfinite(gap) ? std::max(difference.max_abs, std::abs(gap)) : INFINITY;
    squares += gap * gap;
  }
  difference.norm = std::isfinite(difference.max_abs) ? std::sqrt(squares) : INFINITY;
  difference.relative = squares_a > 0 ? difference.norm / std::sqrt(squares_a) : difference.norm > 0 ? INFINITY : 0;
  return difference;
}

void compare_tensor(const std::string& name, const TensorSet& a, const TensorSet& b, CheckpointDifference& out) {
  const checkpoint::TensorInfo &info_a = a.info(name), &info_b = b.info(name);
  if (info_a.shape != info_b.shape) {
    out.structure.push_back(cat(name, ": ", describe(info_a), " -> ", describe(info_b)));
    return;
  }
  if (info_a.dtype_name != info_b.dtype_name) {
    out.structure.push_back(
        cat(name, ": ", describe(info_a), " -> ", describe(info_b), "; values are compared in fp32"));
  }
  const auto bytes_a = a.read(name), bytes_b = b.read(name);
  if (info_a.dtype_name == info_b.dtype_name && bytes_a == bytes_b) {
    ++out.equal;
    return;
  }
  const auto floats = [&](const TensorSet& set, const checkpoint::TensorInfo& info,
                          const std::vector<std::byte>& bytes) {
    const std::string where = cat(set.file_of(name).string(), ": ", name);
    if (!info.dtype) throw CheckpointError(cat(where, ": values of unknown type ", info.dtype_name));
    return checkpoint::to_floats(*info.dtype, bytes, where);
  };
  const TensorDifference difference = difference_of(name, floats(a, info_a, bytes_a), floats(b, info_b, bytes_b));
  if (difference.max_abs == 0) {
    ++out.equal;  // other bits for the same numbers: zeros of two signs, or another type
  } else {
    out.tensors.push_back(difference);
  }
}

void compare_sets(const TensorSet& a, const TensorSet& b, CheckpointDifference& out) {
  for (const std::string& name : a.names()) {
    if (b.has(name)) {
      compare_tensor(name, a, b, out);
    } else {
      out.structure.push_back(cat(name, ": only in the first, ", describe(a.info(name))));
    }
  }
  for (const std::string& name : b.names()) {
    if (!a.has(name)) out.structure.push_back(cat(name, ": only in the second, ", describe(b.info(name))));
  }
}

/// The optimizer's files of a checkpoint; those of processes that shared one come in the same parts or are not
/// compared.
std::set<std::string> moment_files(const Path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (matches_pattern("optimizer-*.safetensors", name)) names.insert(name);
  }
  return names;
}

void compare_moments(const Path& a, const Path& b, CheckpointDifference& out) {
  const auto files_a = moment_files(a), files_b = moment_files(b);
  if (files_a != files_b) {
    out.structure.push_back("the optimizers' moments are divided otherwise, and were not compared");
    return;
  }
  for (const std::string& name : files_a) compare_sets(TensorSet(a / name), TensorSet(b / name), out);
}

}  // namespace

bool CheckpointDifference::none() const {
  return settings.empty() && state.empty() && structure.empty() && tensors.empty();
}

CheckpointDifference compare(const Path& a, const Path& b, bool with_moments) {
  CheckpointDifference out;
  compare_sets(TensorSet(a), TensorSet(b), out);
  if (fs::is_directory(a) && fs::is_directory(b)) {
    out.settings = changes(config_of(a), config_of(b));
    out.state = changes(state_of(a), state_of(b));
    if (with_moments) compare_moments(a, b, out);
  }
  std::stable_sort(out.tensors.begin(), out.tensors.end(),
                   [](const TensorDifference& x, const TensorDifference& y) { return x.relative > y.relative; });
  return out;
}

std::string to_text(const CheckpointDifference& difference, size_t most) {
  std::ostringstream out;
  const auto section = [&](const char* title, const std::vector<std::string>& lines) {
    if (!lines.empty()) out << title << ":\n  " << join(lines, "\n  ") << "\n";
  };
  section("settings", difference.settings);
  section("training state", difference.state);
  section("tensors that do not match", difference.structure);
  if (!difference.tensors.empty()) {
    out << "tensors that differ:\n  " << std::left << std::setw(44) << "name" << std::right << std::setw(14)
        << "max |a-b|" << std::setw(14) << "|a-b|" << std::setw(14) << "|a-b|/|a|"
        << "\n";
  }
  for (size_t i = 0; i < std::min(most, difference.tensors.size()); ++i) {
    const TensorDifference& tensor = difference.tensors[i];
    out << "  " << std::left << std::setw(44) << tensor.name << std::right << std::setprecision(4) << std::setw(14)
        << tensor.max_abs << std::setw(14) << tensor.norm << std::setw(14) << tensor.relative << "\n";
  }
  if (difference.tensors.size() > most) out << "  and " << difference.tensors.size() - most << " more\n";
  out << difference.equal << " tensors are equal, " << difference.tensors.size() << " differ"
      << (difference.none() ? ": no difference" : "") << "\n";
  return out.str();
}

}  // namespace gato::cli

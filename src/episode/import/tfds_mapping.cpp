#include "episode/import/tfds_mapping.h"

#include <algorithm>
#include <set>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr int64_t kMaxDiscreteValues = 1024;
constexpr int64_t kMaxElements = int64_t{1} << 24;
constexpr std::string_view kObservation = "steps/observation";
constexpr std::string_view kAction = "steps/action";
constexpr std::string_view kInstruction = "steps/language_instruction";
/// Smaller tensors of three channels are taken for numbers rather than for pictures.
constexpr int64_t kSmallestImageSide = 8;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// Whether `path` is `parent` or lies below it.
bool is_at(std::string_view path, std::string_view parent) {
  return path.substr(0, parent.size()) == parent && (path.size() == parent.size() || path[parent.size()] == '/');
}

std::string default_name(const std::string& path) {
  for (const std::string_view parent : {kObservation, kAction}) {
    if (path.size() > parent.size() && is_at(path, parent)) return path.substr(parent.size() + 1);
  }
  return path.substr(path.find('/') + 1);  // npos + 1 is 0: the whole path.
}

/// Whether every size is known, and their product small enough for one value.
bool is_fixed(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 1 || size > kMaxElements / elements) return false;
    elements *= size;
  }
  return true;
}

void wrap_in_list(ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar) return;
  ConfigNode list;
  list.kind = ConfigNode::Kind::kList;
  list.origin = node.origin;
  list.list = {node};
  node = list;
}

void wrap_bounds(ConfigNode& node) {
  for (ConfigEntry& entry : node.map) {
    if (entry.key == "low" || entry.key == "high") wrap_in_list(entry.value);
  }
}

ConfigNode scalar_node(const std::string& text, const std::string& origin) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kScalar;
  node.scalar = text;
  node.origin = origin;
  return node;
}

/// Writes out the short forms of one entry of `fields`.
void expand_choice(ConfigNode& node) {
  wrap_bounds(node);
  if (node.kind != ConfigNode::Kind::kScalar) return;
  ConfigNode map;
  map.kind = ConfigNode::Kind::kMap;
  map.origin = node.origin;
  if (node.scalar == "ignore" && !node.quoted) {
    map.map.push_back({"ignore", scalar_node("true", node.origin)});
  } else {
    map.map.push_back({"name", node});
  }
  node = map;
}

/// `fields`: a map file whose entries replace those of earlier files.
TfdsMapFile load_maps(const std::vector<Path>& paths) {
  TfdsMapFile all;
  for (const Path& path : paths) {
    const TfdsMapFile file = read_tfds_map(load_yaml(path.string()));
    all.others = all.others && file.others;
    for (const auto& [leaf, choice] : file.fields) all.fields[leaf] = choice;
  }
  return all;
}

struct TfdsBounds {
  std::vector<double> low, high;
};
GATO_CONFIG(TfdsBounds, GATO_FIELD(low, "Lower bounds, one or one per element."),
            GATO_FIELD(high, "Upper bounds, one or one per element."))

std::map<std::string, TfdsBounds> load_bounds(const Path& path) {
  if (path.empty()) return {};
  ConfigNode document = load_yaml(path.string());
  for (ConfigEntry& entry : document.map) wrap_bounds(entry.value);
  return read_config<std::map<std::string, TfdsBounds>>(document);
}

void set_bounds(TfdsColumn& column, const std::vector<double>& low, const std::vector<double>& high,
                const std::string& from) {
  column.spec.low.assign(low.size(), 0);
  column.spec.high.assign(high.size(), 0);
  std::transform(low.begin(), low.end(), column.spec.low.begin(), [](double x) { return static_cast<float>(x); });
  std::transform(high.begin(), high.end(), column.spec.high.begin(), [](double x) { return static_cast<float>(x); });
  column.bounds_from = from;
}

/// Makes the plan, gathering what is wrong.
class Planner {
 public:
  Planner(const std::vector<TfdsLeaf>& leaves, const TfdsImport& options)
      : leaves_(leaves), options_(options), map_(load_maps(options.maps)) {}

  TfdsPlan make() {
    check_names_of_leaves();
    plan_.task = leaf_for("--task-from", options_.task_from);
    plan_.success = leaf_for("--success-from", options_.success_from);
    for (const TfdsLeaf& leaf : leaves_) place(leaf);
    check_values_used();
    check_unique(plan_.observation);
    check_unique(plan_.action);
    if (plan_.action.empty() && problems_.empty()) {
      problems_.push_back(
          "no leaf is mapped to an action; name one: --map FILE with fields: {PATH: {name: NAME, group: "
          "action}}");
    }
    if (!problems_.empty()) {
      throw ConfigError(
          cat("the data set cannot be mapped before more is known:\n  ", join(problems_, "\n  "),
              "\nA map file, --map FILE.yaml, looks like this:\n  fields:\n    steps/observation/NAME: ignore",
              "\n    steps/observation/OTHER: {name: NEW_NAME, values: 5}"));
    }
    return std::move(plan_);
  }

 private:
  template <class... Args>
  void problem(const Args&... parts) {
    problems_.push_back(cat(parts...));
  }

  std::vector<std::string> paths() const {
    std::vector<std::string> all;
    for (const TfdsLeaf& leaf : leaves_) all.push_back(leaf.path);
    return all;
  }

  std::string hint(const std::string& path) const {
    const std::string close = nearest(path, paths());
    return close.empty() ? "" : cat(" (did you mean ", close, "?)");
  }

  void check_names_of_leaves() {
    const std::vector<std::string> known = paths();
    if (std::none_of(known.begin(), known.end(), [](const std::string& path) { return is_at(path, "steps"); })) {
      throw ConfigError(
          "features.json has no `steps`: this is no RLDS data set, and other TFDS data sets are not read; convert "
          "pictures with captions to WebDataset, anything else to a stream (docs/importing.md)");
    }
    for (const auto& [path, choice] : map_.fields) {
      if (std::find(known.begin(), known.end(), path) == known.end()) {
        problem("the map names '", path, "', which features.json does not have", hint(path));
      }
    }
  }

  std::optional<TfdsLeaf> leaf_for(std::string_view option, const std::string& path) {
    if (path.empty()) return std::nullopt;
    for (const TfdsLeaf& leaf : leaves_) {
      if (leaf.path != path) continue;
      if (leaf.kind == TfdsKind::kText || (leaf.kind == TfdsKind::kTensor && leaf.shape.empty())) {
        if (leaf.sequences.empty()) return leaf;
      }
      problem(option, " ", path, ": it is ", leaf.type_text(), ", must be one text or number");
      return std::nullopt;
    }
    problem(option, " ", path, ": features.json has no such leaf", hint(path));
    return std::nullopt;
  }

  const TfdsFieldChoice* choice_for(const TfdsLeaf& leaf) const {
    const auto place = map_.fields.find(leaf.path);
    return place == map_.fields.end() ? nullptr : &place->second;
  }

  void leave_out(const TfdsLeaf& leaf, std::string_view why) {
    plan_.unused.push_back(cat(leaf.path, ": ", leaf.type_text(), ", not used: ", why));
  }

  /// RLDS's own leaves; true when `leaf` is one.
  bool place_signal(const TfdsLeaf& leaf) {
    const std::pair<std::string_view, std::optional<TfdsLeaf>*> signals[] = {{"steps/reward", &plan_.reward},
                                                                             {"steps/is_first", &plan_.is_first},
                                                                             {"steps/is_last", &plan_.is_last},
                                                                             {"steps/is_terminal", &plan_.is_terminal}};
    for (const auto& [path, place] : signals) {
      if (leaf.path != path) continue;
      if (!is_one_number(leaf)) {
        problem(leaf.path, ": it is ", leaf.type_text(), ", must be one number; set it to ignore in a map file");
      } else {
        *place = leaf;
      }
      return true;
    }
    return false;
  }

  static bool is_one_number(const TfdsLeaf& leaf) {
    return leaf.kind == TfdsKind::kTensor && leaf.sequences.empty() &&
           std::all_of(leaf.shape.begin(), leaf.shape.end(), [](int64_t size) { return size == 1; });
  }

  void place(const TfdsLeaf& leaf) {
    const TfdsFieldChoice* chosen = choice_for(leaf);
    if (chosen != nullptr && chosen->ignore) return leave_out(leaf, "the map says so");
    if (place_signal(leaf) && chosen == nullptr) return;  // A map may make a field of it as well.
    if (chosen == nullptr && (leaf.path == options_.task_from || leaf.path == options_.success_from)) return;
    if (chosen == nullptr) {
      if (const std::string why = why_not_by_default(leaf); !why.empty()) return leave_out(leaf, why);
    }
    const TfdsFieldChoice choice = chosen != nullptr ? *chosen : TfdsFieldChoice{};
    const bool is_action = choice.group.empty() ? is_at(leaf.path, kAction) : choice.group == "action";
    TfdsColumn column;
    column.leaf = leaf;
    column.spec.name = choice.name.empty() ? default_name(leaf.path) : choice.name;
    std::string why = describe_field(choice, is_action, column);
    if (why.empty()) {
      (is_action ? plan_.action : plan_.observation).push_back(std::move(column));
    } else if (is_action || chosen != nullptr || asks_) {
      problem(leaf.path, " (", leaf.type_text(), "): ", why);
    } else {
      leave_out(leaf, why);
    }
    asks_ = false;
  }

  /// Why a leaf that no map names is left out; empty: it is not.
  std::string why_not_by_default(const TfdsLeaf& leaf) const {
    if (!map_.others) return "the map does not name it, and says others: false";
    if (ends_with(leaf.path, "language_embedding")) return "the text itself is read, not another model's view of it";
    const bool mapped = is_at(leaf.path, kObservation) || is_at(leaf.path, kAction) || leaf.path == kInstruction;
    if (!mapped && leaf.per_step) return "neither observation nor action (a map file can name it)";
    if (!mapped) return "it belongs to the episode (a map file can name it)";
    return "";
  }

  /// Fills source and spec; says why that cannot be. Sets asks_ where the user must say more.
  std::string describe_field(const TfdsFieldChoice& choice, bool is_action, TfdsColumn& column) {
    switch (column.leaf.kind) {
      case TfdsKind::kUnsupported:
        return column.leaf.problem;
      case TfdsKind::kText:
        return describe_text(choice, column);
      case TfdsKind::kImage:
        return describe_image(choice, is_action, column);
      case TfdsKind::kTensor:
        break;
    }
    const TfdsLeaf& leaf = column.leaf;
    if (choice.as == "text") return describe_utf8(column);
    if (choice.as == "image" || (choice.as.empty() && !is_action && looks_like_image(leaf))) {
      return describe_pixels(column);
    }
    if (std::string why = describe_shape(choice, column); !why.empty()) return why;
    if (choice.as == "continuous" || (choice.as.empty() && leaf.is_float())) return describe_numbers(choice, column);
    return describe_integers(choice, column);
  }

  static std::string describe_text(const TfdsFieldChoice& choice, TfdsColumn& column) {
    const TfdsLeaf& leaf = column.leaf;
    if (!choice.as.empty() && choice.as != "text") return cat("text cannot be taken as ", choice.as);
    const bool one = std::all_of(leaf.shape.begin(), leaf.shape.end(), [](int64_t size) { return size == 1; });
    if (!one || leaf.sequences.size() > 1) return "nested lists of texts are not read";
    column.source = TfdsColumn::Source::kStrings;
    column.spec.modality = Modality::kText;
    return "";
  }

  std::string describe_image(const TfdsFieldChoice& choice, bool is_action, TfdsColumn& column) const {
    if (!choice.as.empty() && choice.as != "image") return cat("an encoded image cannot be taken as ", choice.as);
    if (is_action) return "an action cannot be an image";
    if (!column.leaf.sequences.empty()) return "several pictures in one value are not read";
    column.source = TfdsColumn::Source::kEncoded;
    column.spec.codec = column.leaf.image_format == "jpeg" ? ImageCodec::kJpeg : ImageCodec::kPng;
    set_image_shape(column);
    return "";
  }

  void set_image_shape(TfdsColumn& column) const {
    const auto side = [](int64_t size) { return size == kUnknownSize ? 0 : size; };
    column.spec.modality = Modality::kImage;
    column.spec.shape = {side(column.leaf.shape[0]), side(column.leaf.shape[1]), 3};
    if (options_.height > 0) column.spec.shape = {options_.height, options_.width, 3};
  }

  static bool looks_like_image(const TfdsLeaf& leaf) {
    return leaf.dtype == "uint8" && leaf.sequences.empty() && leaf.shape.size() == 3 && leaf.shape[2] == 3 &&
           leaf.shape[0] >= kSmallestImageSide && leaf.shape[1] >= kSmallestImageSide;
  }

  std::string describe_pixels(TfdsColumn& column) const {
    const std::vector<int64_t>& shape = column.leaf.shape;
    if (column.leaf.dtype != "uint8" || !column.leaf.sequences.empty() || shape.size() != 3 || shape[2] != 3 ||
        !is_fixed(shape)) {
      return "only tensors of uint8 with a fixed shape [height, width, 3] can be taken as image";
    }
    column.source = TfdsColumn::Source::kPixels;
    set_image_shape(column);
    return "";
  }

  static std::string describe_utf8(TfdsColumn& column) {
    const TfdsLeaf& leaf = column.leaf;
    if (!leaf.is_integer() || leaf.shape.size() != 1 || !is_fixed(leaf.shape) || !leaf.sequences.empty()) {
      return "only integers of a fixed shape [N], the bytes of a text, can be taken as text";
    }
    column.source = TfdsColumn::Source::kUtf8;
    column.spec.modality = Modality::kText;
    return "";
  }

  /// The shape of one value: lengths of sequences, then the tensor's own.
  static std::string describe_shape(const TfdsFieldChoice& choice, TfdsColumn& column) {
    std::vector<int64_t> shape = column.leaf.sequences;
    shape.insert(shape.end(), column.leaf.shape.begin(), column.leaf.shape.end());
    if (!choice.shape.empty()) {
      bool fits = choice.shape.size() == shape.size();
      for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == kUnknownSize || shape[i] == choice.shape[i];
      if (!fits) return cat("the shape in the map does not fit it");
      shape = choice.shape;
    }
    if (std::find(shape.begin(), shape.end(), kUnknownSize) != shape.end()) {
      return "its size varies; a `shape` in a map file takes values of that shape";
    }
    if (!is_fixed(shape)) return cat("one value of it is empty, or has more than ", kMaxElements, " numbers");
    if (!column.leaf.per_step && column.leaf.sequences.size() > 1) return "nested lists of an episode are not read";
    column.spec.shape = shape;
    return "";
  }

  static std::string describe_numbers(const TfdsFieldChoice& choice, TfdsColumn& column) {
    if (choice.values != 0) return "`values` is for integers that are not taken as continuous";
    column.source = TfdsColumn::Source::kNumbers;
    column.spec.modality = Modality::kContinuous;
    column.spec.unit = choice.unit;
    if (!choice.low.empty() || !choice.high.empty()) set_bounds(column, choice.low, choice.high, "the map");
    return "";
  }

  std::string describe_integers(const TfdsFieldChoice& choice, TfdsColumn& column) {
    const TfdsLeaf& leaf = column.leaf;
    if (leaf.is_float()) return "floats can only be taken as continuous";
    column.source = TfdsColumn::Source::kIntegers;
    column.spec.modality = Modality::kDiscrete;
    column.spec.num_values = num_values(choice, column);
    if (column.spec.num_values >= 1 && column.spec.num_values <= kMaxDiscreteValues) return "";
    asks_ = true;
    if (column.spec.num_values > 0) {
      return cat("it has ", column.spec.num_values, " values, at most ", kMaxDiscreteValues,
                 " can be told apart; a map file can take it as continuous, or ignore it");
    }
    return cat("integers without a range: say --values ", column.spec.name,
               "=N when they are 0 to N - 1; a map file can also take them as continuous, or ignore them");
  }

  int64_t num_values(const TfdsFieldChoice& choice, const TfdsColumn& column) {
    if (choice.values != 0) return choice.values;
    for (const std::string& key : {column.leaf.path, column.spec.name}) {
      const auto place = options_.values.find(key);
      if (place == options_.values.end()) continue;
      used_values_.insert(key);
      return place->second;
    }
    const TfdsLeaf& leaf = column.leaf;
    if (leaf.is_bool()) return 2;
    if (leaf.num_classes > 0) return leaf.num_classes;
    const bool declared = leaf.minimum == 0.0 && leaf.maximum && *leaf.maximum >= 0 && *leaf.maximum < 1e9;
    return declared ? static_cast<int64_t>(*leaf.maximum) + 1 : 0;
  }

  void check_values_used() {
    for (const auto& [key, count] : options_.values) {
      if (used_values_.count(key) == 0) problem("--values ", key, "=", count, ": no integers are mapped to that name");
    }
  }

  void check_unique(const std::vector<TfdsColumn>& columns) {
    std::map<std::string, std::string> seen;
    for (const TfdsColumn& column : columns) {
      const auto [place, is_new] = seen.emplace(column.spec.name, column.leaf.path);
      if (!is_new) {
        problem(place->second, " and ", column.leaf.path, " both become '", column.spec.name, "'; rename one in a map");
      }
    }
  }

  const std::vector<TfdsLeaf>& leaves_;
  const TfdsImport& options_;
  TfdsMapFile map_;
  TfdsPlan plan_;
  std::vector<std::string> problems_;
  std::set<std::string> used_values_;
  bool asks_ = false;
};

bool is_continuous(const TfdsColumn& column) { return column.spec.modality == Modality::kContinuous; }

std::string bounds_text(const FieldSpec& spec) {
  constexpr size_t kShown = 8;
  std::vector<std::string> pairs;
  for (size_t i = 0; i < std::min(spec.low.size(), std::min(spec.high.size(), kShown)); ++i) {
    pairs.push_back(cat("[", spec.low[i], ", ", spec.high[i], "]"));
  }
  return join(pairs, " ") + (spec.low.size() > kShown ? " ..." : "");
}

std::string describe_column(const TfdsColumn& column, std::string_view group) {
  const FieldSpec& spec = column.spec;
  std::string line = cat(column.leaf.path, ": ", column.leaf.type_text(), " -> ", modality_name(spec.modality), " ",
                         group, " `", spec.name, "`");
  if (spec.modality == Modality::kDiscrete) line += cat(" of ", spec.num_values, " values");
  if (!column.leaf.classes.empty()) {
    const size_t shown = std::min<size_t>(column.leaf.classes.size(), 8);
    line += cat(" (",
                join({column.leaf.classes.begin(), column.leaf.classes.begin() + static_cast<ptrdiff_t>(shown)}, ", "),
                shown < column.leaf.classes.size() ? ", ...)" : ")");
  }
  if (!spec.low.empty()) line += cat(" in ", bounds_text(spec), " from ", column.bounds_from);
  if (spec.modality == Modality::kImage) {
    line += cat(", stored as ", spec.codec == ImageCodec::kJpeg ? "JPEG" : "PNG");
    if (spec.shape[0] == 0 || spec.shape[1] == 0) line += ", of sizes that vary (training needs one size: --resize)";
  }
  if (spec.modality == Modality::kText && !column.leaf.sequences.empty()) line += ", its strings joined by line ends";
  if (!column.leaf.per_step) line += ", the same at every step";
  return line;
}

std::string last_step_line(const TfdsPlan& plan, const TfdsImport& options) {
  if (!plan.is_last) {
    return "the data set does not mark last steps (steps/is_last): all steps are kept, and how episodes ended is "
           "unknown";
  }
  if (options.keep_last_step) return "the step marked is_last is kept as it is, with its action and reward";
  return "the step marked is_last is left out, for its action and reward mean nothing in RLDS (--last-step keep keeps "
         "it)";
}

}  // namespace

void validate_config(const TfdsFieldChoice& choice, ConfigProblems& problems) {
  const auto one_of = [](const std::string& text, std::initializer_list<std::string_view> allowed) {
    return text.empty() || std::find(allowed.begin(), allowed.end(), text) != allowed.end();
  };
  if (!one_of(choice.group, {"observation", "action"})) problems.add("group", "must be observation or action");
  if (!one_of(choice.as, {"continuous", "discrete", "text", "image"})) {
    problems.add("as", "must be continuous, discrete, text or image");
  }
  if (choice.values < 0 || choice.values > kMaxDiscreteValues) problems.add("values", "must be in [1, 1024]");
  if (choice.low.size() != choice.high.size()) problems.add("high", "must be as many as `low`");
  for (const int64_t size : choice.shape) {
    if (size < 1) problems.add("shape", "sizes must be >= 1");
  }
}

int64_t TfdsColumn::elements() const {
  int64_t count = 1;
  switch (source) {
    case Source::kNumbers:
    case Source::kIntegers:
      return spec.num_elements();
    case Source::kUtf8:
    case Source::kPixels:
      for (const int64_t size : leaf.shape) count *= size;
      return count;
    case Source::kStrings:
    case Source::kEncoded:
      break;
  }
  return 1;
}

TfdsMapFile read_tfds_map(const ConfigNode& document) {
  ConfigNode expanded = document;
  for (ConfigEntry& entry : expanded.map) {
    if (entry.key != "fields") continue;
    for (ConfigEntry& field : entry.value.map) expand_choice(field.value);
  }
  return read_config<TfdsMapFile>(expanded);
}

TfdsPlan make_tfds_plan(const std::vector<TfdsLeaf>& leaves, const TfdsImport& options) {
  return Planner(leaves, options).make();
}

std::vector<TfdsColumn*> apply_tfds_bounds(TfdsPlan& plan, const TfdsImport& options) {
  const std::map<std::string, TfdsBounds> file = load_bounds(options.bounds);
  if (options.action_low.has_value() != options.action_high.has_value()) {
    throw ConfigError("--action-low and --action-high go together");
  }
  std::set<std::string> used;
  std::vector<TfdsColumn*> missing;
  const auto from_file = [&](TfdsColumn& column) {
    for (const std::string& key : {column.leaf.path, column.spec.name}) {
      const auto place = file.find(key);
      if (place == file.end()) continue;
      used.insert(key);
      set_bounds(column, place->second.low, place->second.high, options.bounds.filename().string());
    }
  };
  const auto give = [&](TfdsColumn& column, bool is_action) {
    if (!is_continuous(column)) return;
    from_file(column);
    if (!column.spec.low.empty()) return;
    if (is_action && options.action_low) {
      set_bounds(column, {*options.action_low}, {*options.action_high}, "--action-low and --action-high");
    } else if (column.leaf.minimum && column.leaf.maximum) {
      set_bounds(column, {*column.leaf.minimum}, {*column.leaf.maximum}, "features.json");
    } else if (is_action) {
      missing.push_back(&column);
    }
  };
  for (TfdsColumn& column : plan.action) give(column, true);
  for (TfdsColumn& column : plan.observation) give(column, false);
  for (const auto& [name, bounds] : file) {
    if (used.count(name) == 0) {
      throw ConfigError(cat(options.bounds.string(), ": '", name, "' is no continuous field of this data set"));
    }
  }
  return missing;
}

void ask_for_bounds(const std::vector<TfdsColumn*>& columns) {
  std::vector<std::string> lines, example;
  for (const TfdsColumn* column : columns) {
    lines.push_back(cat("  ", column->spec.name, " (", column->leaf.path, ", ", column->leaf.type_text(), ")"));
    example.push_back(cat("    ", column->spec.name, ": {low: -1, high: 1}    # or lists of ",
                          column->spec.num_elements(), " numbers"));
  }
  throw ConfigError(cat(
      "these continuous actions have no bounds, which the data set does not say and the model needs:\n",
      join(lines, "\n"), "\nGive them by --action-low -1 --action-high 1 (all of them), by --bounds FILE.yaml with\n",
      join(example, "\n"),
      "\nor let them be computed from all data: --bounds-from-data minmax, or 0.01 to leave 1 % out "
      "at each end"));
}

std::vector<std::string> describe_tfds_plan(const TfdsPlan& plan, const TfdsImport& options) {
  std::vector<std::string> lines;
  for (const TfdsColumn& column : plan.observation) lines.push_back(describe_column(column, "observation"));
  for (const TfdsColumn& column : plan.action) lines.push_back(describe_column(column, "action"));
  if (plan.reward) lines.push_back(cat(plan.reward->path, ": ", plan.reward->type_text(), " -> reward"));
  std::vector<std::string> marks;
  for (const auto* leaf : {&plan.is_first, &plan.is_last, &plan.is_terminal}) {
    if (*leaf) marks.push_back((*leaf)->path);
  }
  if (!marks.empty()) lines.push_back(cat(join(marks, ", "), " -> how the episode ended"));
  if (plan.task) lines.push_back(cat(plan.task->path, ": ", plan.task->type_text(), " -> task"));
  if (plan.success)
    lines.push_back(cat(plan.success->path, ": ", plan.success->type_text(), " -> success",
                        plan.success->per_step ? ", its value at the last step" : ""));
  lines.insert(lines.end(), plan.unused.begin(), plan.unused.end());
  lines.push_back(last_step_line(plan, options));
  return lines;
}

}  // namespace gato::episode

// Any bytes as a tf.Example: DataError, or lists whose values can all be read, as many as they say. Then the same bytes
// as a record of a small RLDS data set: DataError, or an episode that fits its columns.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "episode/import/tf_example.h"
#include "episode/import/tfds_episode.h"
#include "gato/core/error.h"

namespace {

using namespace gato::episode;

void require(bool holds) {
  if (!holds) std::abort();
}

void read_feature(const ExampleFeature& feature) {
  uint64_t count = 0;
  switch (feature.kind()) {
    case ExampleKind::kNone:
      break;
    case ExampleKind::kBytes:
      feature.for_each_string([&](std::string_view) { ++count; });
      break;
    case ExampleKind::kFloats: {
      std::vector<float> values(feature.count());
      feature.copy_floats(values);
      count = values.size();
      break;
    }
    case ExampleKind::kIntegers:
      feature.for_each_integer([&](int64_t) { ++count; });
      break;
  }
  require(count == feature.count());
}

/// Every kind of leaf, with short keys, so that a fuzzer finds them.
const TfdsPlan& plan() {
  static const TfdsPlan kPlan = [] {
    const std::vector<TfdsLeaf> leaves = parse_tfds_features(
        R"({"featuresDict":{"features":{"e":{"text":{}},"n":{"sequence":{"feature":{"tensor":{"dtype":"float32"}},"length":2}},
        "steps":{"sequence":{"feature":{"featuresDict":{"features":{
        "is_first":{"tensor":{"dtype":"bool"}},"is_last":{"tensor":{"dtype":"bool"}},"is_terminal":{"tensor":{"dtype":"bool"}},
        "reward":{"tensor":{"dtype":"float32"}},"action":{"tensor":{"dtype":"float32","shape":{"dimensions":["2"]}}},
        "observation":{"featuresDict":{"features":{"i":{"image":{"encodingFormat":"jpeg"}},
        "p":{"tensor":{"dtype":"uint8","shape":{"dimensions":["8","8","3"]}}},
        "z":{"tensor":{"dtype":"float64","shape":{"dimensions":["2"]},"encoding":"zlib"}},
        "b":{"tensor":{"dtype":"int16","shape":{"dimensions":["2"]},"encoding":"bytes"}},
        "u":{"tensor":{"dtype":"int32","shape":{"dimensions":["4"]}}},"c":{"classLabel":{"numClasses":"3"}},
        "r":{"sequence":{"feature":{"tensor":{"dtype":"float32"}},"length":2}},
        "s":{"sequence":{"feature":{"text":{}}}},"t":{"text":{}}}}}}}}}}}}})",
        "plan");
    TfdsImport options;
    options.values = {{"b", 100}, {"u", 100}};
    options.success_from = std::string("e");  // Assigning a literal makes g++ 12 see an overlap.
    TfdsPlan made = make_tfds_plan(leaves, options);
    for (TfdsColumn& column : made.observation) {  // What a map file would say.
      if (column.spec.name != "u") continue;
      column.source = TfdsColumn::Source::kUtf8;
      column.spec.modality = Modality::kText;
    }
    return made;
  }();
  return kPlan;
}

void check_column(const TfdsColumn& column, const Column& values, int64_t steps) {
  const auto count = static_cast<size_t>(steps * column.elements());
  switch (column.source) {
    case TfdsColumn::Source::kNumbers:
      return require(values.continuous.size() == count);
    case TfdsColumn::Source::kIntegers:
      return require(values.discrete.size() == count);
    case TfdsColumn::Source::kStrings:
    case TfdsColumn::Source::kUtf8:
      return require(values.text.size() == static_cast<size_t>(steps));
    case TfdsColumn::Source::kEncoded:
      return require(values.encoded.size() == static_cast<size_t>(steps));
    case TfdsColumn::Source::kPixels:
      return require(values.images.size() == static_cast<size_t>(steps));
  }
}

void read_columns(const TfdsRecord& record, const std::vector<TfdsColumn>& columns, int64_t steps) {
  for (const TfdsColumn& column : columns) {
    try {
      check_column(column, record.column(column, steps), steps);
    } catch (const gato::DataError&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const TfExample example = parse_tf_example(bytes, "input");
    for (const auto& [key, feature] : example) read_feature(feature);
    const TfdsRecord record(plan(), example, "input");
    const int64_t steps = record.num_steps(false);
    read_columns(record, plan().observation, steps);
    read_columns(record, plan().action, steps);
    const Episode episode = make_tfds_episode(plan(), record, false);
    require(episode.num_steps == steps && episode.reward.size() == static_cast<size_t>(steps));
  } catch (const gato::DataError&) {
  }
  return 0;
}

#include "gato/episode/inspect.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "episode/group.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

/// `text` without control characters, so that stored texts cannot steer a terminal, cut after `max_bytes`.
std::string printable(std::string_view text, int64_t max_bytes = 1000) {
  auto kept = static_cast<size_t>(std::clamp<int64_t>(max_bytes, 0, static_cast<int64_t>(text.size())));
  while (kept < text.size() && kept > 0 && (static_cast<unsigned char>(text[kept]) & 0xc0) == 0x80) --kept;
  std::string result;
  for (const char c : text.substr(0, kept)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned>(byte));
      result += escaped;
    } else {
      result += c;
    }
  }
  if (kept < text.size()) result += cat("... (", text.size(), " bytes)");
  return result;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string line(int indent, std::string_view label, std::string_view value) {
  return cat(std::string(static_cast<size_t>(indent), ' '), padded(std::string(label), 13), value, "\n");
}

// ---- Tasks ---------------------------------------------------------------------------------------------------------

/// What the index says about the episodes of one task.
struct Summary {
  int64_t episodes = 0, steps = 0, terminated = 0, truncated = 0, judged = 0, successes = 0, rewarded = 0;
  int64_t shortest = 0, longest = 0;
  double return_sum = 0, lowest_return = 0, highest_return = 0;

  void add(const EpisodeIndexEntry& entry);
};

void Summary::add(const EpisodeIndexEntry& entry) {
  const auto has = [&](EpisodeFlags flag) { return (entry.flags & flag) != 0 ? 1 : 0; };
  const int64_t length = entry.num_steps;
  shortest = episodes == 0 ? length : std::min(shortest, length);
  longest = std::max(longest, length);
  episodes += 1;
  steps += length;
  terminated += has(kEpisodeTerminated);
  truncated += has(kEpisodeTruncated);
  judged += has(kEpisodeHasSuccess);
  successes += has(kEpisodeSuccess);
  if (has(kEpisodeHasReward) == 0) return;
  const double value = entry.total_return;
  lowest_return = rewarded == 0 ? value : std::min(lowest_return, value);
  highest_return = rewarded == 0 ? value : std::max(highest_return, value);
  return_sum += value;
  rewarded += 1;
}

std::string shape_text(const FieldSpec& field) {
  if (field.modality == Modality::kText) return "";
  if (field.modality == Modality::kImage) {
    const auto side = [](int64_t pixels) { return pixels == 0 ? std::string("any") : std::to_string(pixels); };
    return cat(side(field.shape[0]), " x ", side(field.shape[1]),
               field.codec == ImageCodec::kJpeg ? ", JPEG" : ", PNG");
  }
  std::vector<std::string> dimensions;
  for (const int64_t dimension : field.shape) dimensions.push_back(std::to_string(dimension));
  return field.shape.empty() ? "scalar" : cat("[", join(dimensions, ", "), "]");
}

std::string range_text(const FieldSpec& field) {
  if (field.modality == Modality::kDiscrete) return cat("values 0 to ", field.num_values - 1);
  if (field.modality != Modality::kContinuous || field.low.empty()) return "";
  std::string text = cat("in [", number(field.low[0]), ", ", number(field.high[0]), "]");
  if (field.low.size() > 1)
    text = cat(number(*std::min_element(field.low.begin(), field.low.end())), " to ",
               number(*std::max_element(field.high.begin(), field.high.end())), ", each its own");
  return field.unit.empty() ? text : cat(text, " ", printable(field.unit));
}

std::string describe_fields(const TaskSpec& task, Group group) {
  std::string text;
  for (const FieldSpec& field : fields_of(task, group)) {
    std::vector<std::string> parts = {std::string(modality_name(field.modality))};
    for (const std::string& part : {shape_text(field), range_text(field)}) {
      if (!part.empty()) parts.push_back(part);
    }
    text += line(2, group_name(group), cat(padded(field.name, 20), " ", join(parts, ", ")));
  }
  return text;
}

std::string reference_text(const ReturnRecord& record) {
  if (record.episodes == 0) return "not measured";
  return cat(number(record.mean), " +- ", number(record.standard_error), " (", record.episodes, " episodes)");
}

std::string scoring_text(const TaskSpec& task) {
  constexpr std::array<std::string_view, 3> kNames = {"return between random and expert", "exact match of the text",
                                                      "loss only"};
  std::string text(kNames[static_cast<size_t>(task.scoring)]);
  if (task.max_steps > 0) text += cat(", at most ", task.max_steps, " steps");
  if (task.partial_view) text += ", partial view";
  return text;
}

std::string describe_outcomes(const Summary& summary) {
  std::string text;
  if (summary.rewarded > 0) {
    text += line(2, "return",
                 cat("mean ", number(summary.return_sum / static_cast<double>(summary.rewarded)), ", from ",
                     number(summary.lowest_return), " to ", number(summary.highest_return)));
  }
  if (summary.judged > 0) {
    const double share = 100.0 * static_cast<double>(summary.successes) / static_cast<double>(summary.judged);
    text += line(2, "success", cat(format_fixed(share, 1), " % of ", summary.judged, " judged episodes"));
  }
  return text;
}

std::string describe_task(const ShardReader& shard, size_t index, const Summary& summary) {
  const TaskSpec& task = shard.tasks()[index];
  std::string text = cat("\ntask ", task.id, task.description.empty() ? "" : ": ", printable(task.description), "\n");
  text += line(2, "scoring", scoring_text(task));
  if (task.scoring == Scoring::kReturn) {
    text += line(2, "expert", reference_text(task.expert));
    text += line(2, "random", reference_text(task.random));
  }
  if (!task.licence.empty()) text += line(2, "licence", printable(task.licence));
  text += describe_fields(task, Group::kObservation);
  text += describe_fields(task, Group::kAction);
  if (shard.has_labels(static_cast<int>(index))) text += line(2, "labels", "beside the executed actions");
  if (summary.episodes == 0) return text + line(2, "episodes", "none");
  text +=
      line(2, "episodes",
           cat(summary.episodes, " (", summary.terminated, " ended by the task, ", summary.truncated, " by a limit)"));
  text += line(2, "steps",
               cat(summary.steps, " (", summary.shortest, " to ", summary.longest, " per episode, mean ",
                   number(static_cast<double>(summary.steps) / static_cast<double>(summary.episodes)), ")"));
  return text + describe_outcomes(summary);
}

// ---- Data set and columns ------------------------------------------------------------------------------------------

std::string describe_dataset(const ShardReader& shard) {
  const DatasetInfo& info = shard.info();
  std::string text = cat("shard ", shard.path().string(), "\n");
  text += line(2, "data set", cat(info.name, info.description.empty() ? "" : ": ", printable(info.description)));
  text += line(2, "licence", info.licence.empty() ? "not stated" : printable(info.licence));
  text += line(2, "made by", info.created_by.empty() ? "not stated" : printable(info.created_by));
  text += line(2, "size", format_bytes(static_cast<double>(shard.file_bytes())));
  text += line(2, "fingerprint", shard.fingerprint());
  std::vector<int64_t> episodes(shard.source_agents().size(), 0);
  int64_t steps = 0;
  for (const EpisodeIndexEntry& entry : shard.index()) {
    ++episodes[entry.source_agent];
    steps += entry.num_steps;
  }
  text += line(2, "holds", cat(shard.index().size(), " episodes, ", steps, " steps, ", shard.tasks().size(), " tasks"));
  std::vector<std::string> agents;
  for (size_t i = 0; i < episodes.size(); ++i) {
    const std::string& name = shard.source_agents()[i];
    agents.push_back(cat(name.empty() ? "unnamed" : printable(name), " ", episodes[i]));
  }
  return agents.empty() ? text : text + line(2, "agents", join(agents, ", "));
}

std::string describe_columns(const ShardReader& shard) {
  std::string text = "\ncolumns, with rows and bytes\n";
  for (const ColumnSize& column : shard.column_sizes()) {
    const double share = 100.0 * static_cast<double>(column.bytes) / static_cast<double>(shard.file_bytes());
    text += cat("  ", padded(column.name, 44), " ", padded(std::to_string(column.rows), 10), " ",
                padded(format_bytes(static_cast<double>(column.bytes)), 10), " ", format_fixed(share, 1), " %\n");
  }
  return text;
}

// ---- One episode ---------------------------------------------------------------------------------------------------

template <class T>
std::string values_text(const std::vector<T>& values, int64_t max_values) {
  std::vector<std::string> parts;
  for (const T value : values) {
    if (static_cast<int64_t>(parts.size()) == max_values) {
      parts.push_back(cat("... ", values.size(), " values"));
      break;
    }
    parts.push_back(number(static_cast<double>(value)));
  }
  return values.size() == 1 ? parts[0] : cat("[", join(parts, ", "), "]");
}

std::string indented(const std::string& text, int indent) {
  std::string result;
  for (const std::string& row : split(text, '\n')) {
    if (!row.empty()) result += cat(std::string(static_cast<size_t>(indent), ' '), row, "\n");
  }
  return result;
}

std::string describe_value(Group group, const FieldSpec& spec, const FieldValue& value, const InspectOptions& options) {
  const auto with = [&](const std::string& shown) {
    return cat("    ", padded(cat(group_name(group), " ", spec.name), 28), " ", shown, "\n");
  };
  switch (spec.modality) {
    case Modality::kContinuous:
      return with(values_text(value.continuous, options.max_values));
    case Modality::kDiscrete:
      return with(values_text(value.discrete, options.max_values));
    case Modality::kText:
      return with(cat("\"", printable(value.text, options.max_text_bytes), "\""));
    case Modality::kImage: {
      const std::string header = with(cat("image ", value.image.height, " x ", value.image.width));
      if (options.thumbnail_columns <= 0) return header;
      return header + indented(draw_image(value.image, options.thumbnail_columns, options.color), 6);
    }
  }
  return "";
}

}  // namespace

std::string describe_step(const TaskSpec& task, const Episode& window, int64_t step, int64_t number_shown,
                          const InspectOptions& options) {
  std::string text = cat("  step ", number_shown, "\n");
  for (const Group group : kGroups) {
    const std::vector<FieldSpec>& fields = fields_of(task, group);
    const std::vector<Column>& columns = group == Group::kObservation ? window.observation
                                         : group == Group::kAction    ? window.action
                                                                      : window.label;
    for (size_t i = 0; i < columns.size(); ++i) {
      text += describe_value(group, fields[i], value_at(columns[i], fields[i], step), options);
    }
  }
  if (!window.reward.empty()) {
    text += cat("    ", padded("reward", 28), " ", number(window.reward[static_cast<size_t>(step)]), "\n");
  }
  return text;
}

namespace {

std::string describe_episode(const ShardReader& shard, const InspectOptions& options) {
  const EpisodeIndexEntry& entry = shard.index()[static_cast<size_t>(options.episode)];
  const TaskSpec& task = shard.tasks()[entry.task];
  const int64_t steps = std::clamp<int64_t>(options.steps, 0, entry.num_steps);
  const Episode window = shard.read(options.episode, 0, steps);
  std::string text = cat("\nepisode ", options.episode, " of task ", task.id, "\n");
  text += line(2, "id", printable(window.id));
  text += line(2, "agent", window.source_agent.empty() ? "unnamed" : printable(window.source_agent));
  text += line(2, "seed", std::to_string(window.seed));
  std::string outcome = cat(entry.num_steps, " steps");
  if ((entry.flags & kEpisodeHasReward) != 0) outcome += cat(", return ", number(entry.total_return));
  if (window.success) outcome += *window.success ? ", success" : ", no success";
  outcome += window.terminated ? ", ended by the task" : window.truncated ? ", cut by a limit" : "";
  text += line(2, "outcome", outcome);
  for (int64_t step = 0; step < steps; ++step) text += describe_step(task, window, step, step, options);
  return text;
}

// ---- Pictures ------------------------------------------------------------------------------------------------------

constexpr int64_t kMaxPictureLines = 64;

struct Color {
  int red, green, blue;
};

/// Mean of the pixels under cell (row, column) of a rows x columns raster laid over the image.
Color mean_color(const Image& image, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const int64_t top = row * image.height / rows, left = column * image.width / columns;
  const int64_t bottom = std::max(top + 1, (row + 1) * image.height / rows);
  const int64_t right = std::max(left + 1, (column + 1) * image.width / columns);
  std::array<int64_t, 3> sum{};
  for (int64_t y = top; y < bottom; ++y) {
    for (int64_t x = left; x < right; ++x) {
      for (size_t channel = 0; channel < 3; ++channel) {
        sum[channel] += image.pixels[static_cast<size_t>((y * image.width + x) * 3) + channel];
      }
    }
  }
  const int64_t count = (bottom - top) * (right - left);
  return {static_cast<int>(sum[0] / count), static_cast<int>(sum[1] / count), static_cast<int>(sum[2] / count)};
}

char shade_of(const Color& color) {
  constexpr std::string_view kShades = " .:-=+*#%@";
  const int luminance = (299 * color.red + 587 * color.green + 114 * color.blue) / 1000;
  return kShades[static_cast<size_t>(luminance) * kShades.size() / 256];
}

std::string ansi(int layer, const Color& color) {
  return cat("\x1b[", layer, ";2;", color.red, ";", color.green, ";", color.blue, "m");
}

}  // namespace

std::string describe_shard(const ShardReader& shard, const InspectOptions& options) {
  const auto num_episodes = static_cast<int64_t>(shard.index().size());
  if (options.episode > 0 && options.episode >= num_episodes) {
    throw ConfigError(cat(shard.path().string(), ": no episode ", options.episode, ", the shard has ", num_episodes));
  }
  std::vector<Summary> summaries(shard.tasks().size());
  for (const EpisodeIndexEntry& entry : shard.index()) summaries[entry.task].add(entry);
  std::string text = describe_dataset(shard);
  for (size_t i = 0; i < summaries.size(); ++i) text += describe_task(shard, i, summaries[i]);
  text += describe_columns(shard);
  if (options.episode >= 0 && num_episodes > 0) text += describe_episode(shard, options);
  return text;
}

std::string describe_token_columns(const TokenColumnsReader& tokens, const ShardReader& shard) {
  std::string text = "\ntoken columns\n";
  text += line(2, "tokenizer", printable(tokens.tokenizer_digest()));
  text += line(2, "size", format_bytes(static_cast<double>(tokens.file_bytes())));
  if (tokens.shard_fingerprint() != shard.fingerprint()) {
    text += line(2, "stale", "made for another version of the shard; run gato-data tokenize again");
    return text;
  }
  for (const TokenColumnsReader::FieldKey& key : tokens.fields()) {
    std::string name = cat("task ", key.task, " ", group_name(key.group), "/", key.field);
    if (static_cast<size_t>(key.task) < shard.tasks().size()) {
      const TaskSpec& task = shard.tasks()[static_cast<size_t>(key.task)];
      const std::vector<FieldSpec>& fields = fields_of(task, key.group);
      if (static_cast<size_t>(key.field) < fields.size()) {
        name = column_name(task, key.group, fields[static_cast<size_t>(key.field)]);
      }
    }
    const double mean = static_cast<double>(key.num_tokens) / static_cast<double>(std::max<uint64_t>(key.num_steps, 1));
    text += cat("  ", padded(name, 44), " ", key.num_tokens, " tokens in ", key.num_steps, " steps, mean ",
                number(mean), "\n");
  }
  return text;
}

std::string draw_image(const Image& image, int64_t columns, bool color) {
  GATO_CHECK(image.height > 0 && image.width > 0 && columns > 0, "picture of ", image.height, " x ", image.width,
             " in ", columns, " columns");
  columns = std::min<int64_t>(columns, image.width);
  // A character is about twice as high as wide: one pixel row per half of it in colour, two per character in shades.
  const int64_t lines = std::clamp<int64_t>((columns * image.height / image.width + 1) / 2, 1, kMaxPictureLines);
  std::string text;
  for (int64_t row = 0; row < lines; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      if (color) {
        text += ansi(38, mean_color(image, 2 * row, 2 * lines, column, columns));
        text += ansi(48, mean_color(image, 2 * row + 1, 2 * lines, column, columns));
        text += "\xe2\x96\x80";  // Upper half block.
      } else {
        text += shade_of(mean_color(image, row, lines, column, columns));
      }
    }
    text += color ? "\x1b[0m\n" : "\n";
  }
  return text;
}

}  // namespace gato::episode

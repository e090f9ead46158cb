#include "gato/data/tokenize.h"

#include <algorithm>
#include <memory>

namespace gato::data {
namespace {

using episode::Group;
using episode::Modality;
using episode::ShardReader;
using episode::TokenColumns;

struct TextField {
  Group group = Group::kObservation;
  int field = 0;
};

std::vector<TextField> text_fields(const episode::TaskSpec& spec) {
  std::vector<TextField> found;
  const auto add = [&](const std::vector<episode::FieldSpec>& fields, Group group) {
    for (size_t f = 0; f < fields.size(); ++f) {
      if (fields[f].modality == Modality::kText) found.push_back({group, static_cast<int>(f)});
    }
  };
  add(spec.observation, Group::kObservation);
  add(spec.action, Group::kAction);
  return found;
}

bool columns_fit(const Path& path, const ShardReader& shard, const tokenizer::TextTokenizer& text) {
  if (!std::filesystem::exists(path)) return false;
  try {
    const episode::TokenColumnsReader reader(path);
    return reader.tokenizer_digest() == text.digest() && reader.shard_fingerprint() == shard.fingerprint();
  } catch (const DataError&) {
    return false;  // damaged or of an old format: written again
  }
}

}  // namespace

TokenizedShard tokenize_shard(const Path& path, const tokenizer::TextTokenizer& text) {
  const ShardReader shard(path);
  TokenizedShard done;
  done.shard = path;
  TokenColumns columns;
  columns.tokenizer_digest = text.digest();
  columns.shard_fingerprint = shard.fingerprint();
  for (size_t t = 0; t < shard.tasks().size(); ++t) {
    auto& fields = columns.tasks.emplace_back();
    for (const TextField& which : text_fields(shard.tasks()[t])) fields.push_back({which.group, which.field, {0}, {}});
    done.had_text = done.had_text || !fields.empty();
  }
  if (!done.had_text) return done;
  if (columns_fit(episode::token_columns_path(path), shard, text)) {
    done.reused = true;
    return done;
  }
  for (size_t t = 0; t < columns.tasks.size(); ++t) {
    const int task = static_cast<int>(t);
    for (TokenColumns::Field& field : columns.tasks[t]) {
      std::string_view last;
      std::vector<int32_t> ids;
      for (uint64_t step = 0; step < shard.num_steps(task); ++step) {
        const std::string_view value = shard.text(task, field.group, field.field, step);
        // Missions repeat from step to step.
        if (step == 0 || value != last) ids = text.encode(value);
        last = value;
        field.tokens.insert(field.tokens.end(), ids.begin(), ids.end());
        field.offsets.push_back(field.tokens.size());
        ++done.texts;
      }
      done.tokens += static_cast<int64_t>(field.tokens.size());
    }
  }
  episode::write_token_columns(episode::token_columns_path(path), columns);
  return done;
}

namespace {

/// A walk through one text field of one shard.
struct Walk {
  std::shared_ptr<const ShardReader> shard;
  int task = 0;
  TextField field;
  uint64_t step = 0;
  std::string last;  // missions repeat from step to step
};

struct TextStream {
  std::vector<Walk> walks;
  size_t turn = 0;

  bool next(std::string& text) {
    while (!walks.empty()) {
      turn = turn % walks.size();
      Walk& walk = walks[turn];
      if (walk.step >= walk.shard->num_steps(walk.task)) {
        walks.erase(walks.begin() + static_cast<std::ptrdiff_t>(turn));
        continue;
      }
      const std::string_view value = walk.shard->text(walk.task, walk.field.group, walk.field.field, walk.step++);
      if (value.empty() || value == walk.last) continue;
      text = walk.last = value;
      ++turn;
      return true;
    }
    return false;
  }
};

}  // namespace

std::function<bool(std::string&)> texts_of(const std::vector<Path>& shards) {
  auto stream = std::make_shared<TextStream>();
  for (const Path& path : shards) {
    const auto reader = std::make_shared<const ShardReader>(path);
    for (size_t t = 0; t < reader->tasks().size(); ++t) {
      for (const TextField& field : text_fields(reader->tasks()[t]))
        stream->walks.push_back({reader, static_cast<int>(t), field, 0, {}});
    }
  }
  return [stream](std::string& text) { return stream->next(text); };
}

}  // namespace gato::data

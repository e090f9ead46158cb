#include "write_text.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/episode/shard.h"
#include "gato/model/token_loop.h"

namespace gato::eval {
namespace {

/// What a document is made of: no observation and one text.
episode::TaskSpec document_spec() {
  episode::TaskSpec spec;
  spec.id = "text/document";
  episode::FieldSpec& text = spec.action.emplace_back();
  text.name = "text";
  text.modality = episode::Modality::kText;
  return spec;
}

std::vector<uint32_t> ids_of(const Agent& agent, const std::string& text) {
  if (agent.text() == nullptr) throw ConfigError(cat(agent.path().string(), " was trained without text"));
  const std::vector<int32_t> ids = agent.text()->encode(text);
  return {ids.begin(), ids.end()};
}

std::string text_of(const Agent& agent, std::span<const uint32_t> ids) {
  return agent.text()->decode(std::vector<int32_t>(ids.begin(), ids.end()));
}

/// The text that follows on `begin` (not empty).
std::string written(const Agent& agent, std::vector<uint32_t> begin, const WritingOptions& options) {
  GATO_CHECK(!begin.empty() && options.most_tokens > 0, begin.size(), " tokens, ", options.most_tokens, " asked");
  const at::NoGradGuard no_grad;
  const int64_t row = agent.row_tokens();
  const auto most_seen = static_cast<size_t>(std::max<int64_t>(1, row / 2));
  if (begin.size() > most_seen) begin.erase(begin.begin(), begin.end() - static_cast<std::ptrdiff_t>(most_seen));
  const tokenizer::TaskTokenizer tokens(document_spec(), agent.vocabulary(), agent.text());
  tokenizer::TokenSequence stream;
  tokens.append_document(begin, 0, static_cast<int64_t>(begin.size()), {}, stream);
  const int64_t most = std::min(options.most_tokens, row - stream.size());
  model::Decoder decoder(agent.acting(), 1, row);
  model::TokenLoop loop(decoder, false);
  const std::array<int64_t, 1> slot = {0};
  std::vector<int32_t> chosen;
  while (const auto next = tokens.next_action_token(chosen, most)) {
    const auto rounds = std::min<int64_t>(most - static_cast<int64_t>(chosen.size()), model::TokenLoop::kMostRounds);
    std::vector<kernels::TokenChoice> choices;
    for (int64_t r = 0; r < rounds; ++r) {
      Rng rng(mix_seed(options.seed, {hash_name("write"), chosen.size() + static_cast<uint64_t>(r)}));
      choices.push_back({.first_id = next->first_id,
                         .num_ids = next->num_ids,
                         .choice = kernels::Choice::kSample,
                         .temperature = options.temperature,
                         .top_p = options.top_p,
                         .uniform = rng.uniform(),
                         .local_position = tokenizer::kNoPosition,
                         .end_id = agent.text()->end_id()});
    }
    const model::DecoderInput input{stream.ids, stream.local_positions, {}, {}, {}};
    const auto ids = loop.choose(slot, decoder.append(slot, {&input, 1}), choices).at(0);
    chosen.insert(chosen.end(), ids.begin(), ids.end());
    stream.clear();
    tokens.append_action_token(*next, ids.back(), stream);  // all but the last are in the cache
  }
  return tokens.decode_action(chosen, most).at(0).text;
}

}  // namespace

std::string go_on_writing(const Agent& agent, const std::string& begin, const WritingOptions& options) {
  if (begin.empty()) throw ConfigError("there is no text to go on with");
  return written(agent, ids_of(agent, begin), options);
}

std::vector<MediaItem> text_samples(const Agent& agent, const std::string& task, size_t most) {
  constexpr size_t kSeen = 40;
  const WritingOptions base;
  std::vector<MediaItem> samples;
  const checkpoint::Checkpoint checkpoint(agent.path());
  if (agent.text() == nullptr || !checkpoint.has("heldout.gato")) return samples;
  const episode::ShardReader shard(checkpoint.file("heldout.gato"));
  for (size_t e = 0; e < shard.index().size() && samples.size() < most; ++e) {
    if (shard.tasks()[shard.index()[e].task].id != task) continue;
    const std::vector<uint32_t> ids = ids_of(agent, shard.read(static_cast<int64_t>(e)).action.at(0).text.at(0));
    const size_t seen = std::min(kSeen, ids.size() / 2);
    if (seen < 4) continue;
    WritingOptions options = base;
    options.seed = mix_seed(hash_name(task), {e});
    const std::span<const uint32_t> all(ids);
    const size_t after = std::min(ids.size() - seen, static_cast<size_t>(base.most_tokens));
    MediaItem sample;
    sample.task = task;
    sample.question = text_of(agent, all.first(seen));
    sample.answer = written(agent, {ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(seen)}, options);
    sample.reference = text_of(agent, all.subspan(seen, after));
    samples.push_back(std::move(sample));
  }
  return samples;
}

void keep_text_samples(const Path& results, const Agent& agent, const std::string& task) {
  constexpr size_t kShown = 4;
  const std::vector<MediaItem> samples = text_samples(agent, task, kShown);
  if (!samples.empty()) write_media(results, task, 0, samples);
}

}  // namespace gato::eval

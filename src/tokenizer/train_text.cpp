#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/tokenizer/text_tokenizer.h"
#include "model_file.h"
#include "sentencepiece_trainer.h"

namespace gato::tokenizer {
namespace {

constexpr size_t kMaxTrainingBytes = size_t{128} << 20;  // The trainer needs about 24 bytes of memory for each.
constexpr size_t kMaxSegmentBytes = 4096;                // It passes over longer sentences.
constexpr int64_t kFixedPieces = 258;                    // <unk>, </s>, 256 bytes.
constexpr int64_t kMinVocabulary = 320, kMaxVocabulary = int64_t{1} << 20;
constexpr double kCoverage = 0.9995;  // Share of the text's characters that get pieces; the others are spelt in bytes.

/// Length of the character that starts with `lead`, in valid UTF-8.
size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

/// Characters that the trainer uses as signs of its own and never puts into pieces: U+0000, tab, U+2581 and U+2585.
bool is_reserved(std::string_view character) {
  return character == std::string_view("\0", 1) || character == "\t" || character == detail::kSpaceSymbol ||
         character == "\xe2\x96\x85";
}

std::vector<std::string> collect_texts(const TokenizerTraining& config, const std::function<bool(std::string&)>& next) {
  std::vector<std::string> texts;
  std::string text;
  size_t bytes = 0, bad_offset = 0;
  while (static_cast<int64_t>(texts.size()) < config.max_sentences && next(text)) {
    if (!is_valid_utf8(text, &bad_offset)) {
      throw DataError(
          cat("text ", texts.size(), " for training the text tokenizer: byte ", bad_offset, " is not valid UTF-8"));
    }
    if (bytes + text.size() > kMaxTrainingBytes) {
      log::info("tokenizer", "training on the first ", texts.size(), " texts (",
                format_bytes(static_cast<double>(bytes)), "); more would need too much memory");
      break;
    }
    bytes += text.size();
    texts.push_back(std::move(text));
    text.clear();
  }
  return texts;
}

using Alphabet = std::set<std::string, std::less<>>;

/// The characters that get pieces of their own: the most frequent ones, up to kCoverage of all, in at most half of the
/// vocabulary, so that there is room for longer pieces. The line feed is always one.
Alphabet choose_alphabet(const std::vector<std::string>& texts, int64_t vocabulary_size) {
  std::unordered_map<std::string_view, int64_t> counts;
  int64_t total = 0;
  for (const std::string& text : texts) {
    for (size_t at = 0; at < text.size();) {
      const std::string_view character = std::string_view(text).substr(at, character_bytes(text[at]));
      at += character.size();
      if (is_reserved(character)) continue;
      ++counts[character];
      ++total;
    }
  }
  std::vector<std::pair<std::string_view, int64_t>> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  const auto room = static_cast<size_t>((vocabulary_size - kFixedPieces) / 2);
  Alphabet alphabet{"\n"};
  int64_t covered = 0;
  for (const auto& [character, count] : sorted) {
    if (alphabet.size() >= room || static_cast<double>(covered) >= kCoverage * static_cast<double>(total)) break;
    alphabet.emplace(character);
    covered += count;
  }
  return alphabet;
}

/// Yields the texts in segments that the trainer takes whole: of alphabet characters only, at most kMaxSegmentBytes
/// long, cut before spaces where possible (pieces never reach across a space).
class Segments : public sentencepiece::SentenceIterator {
 public:
  Segments(const std::vector<std::string>& texts, const Alphabet& alphabet) : texts_(texts), alphabet_(alphabet) {
    Next();
  }

  bool done() const override { return segment_.empty(); }
  const std::string& value() const override { return segment_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    segment_.clear();
    while (segment_.empty() && text_ < texts_.size()) {
      fill_segment(texts_[text_]);
      if (at_ < texts_[text_].size()) continue;
      at_ = 0;
      ++text_;
    }
    // The line feed must occur: a required character that does not ends the process, and so does a text of nothing else
    // but the trainer's own signs.
    if (segment_.empty() && !std::exchange(line_feed_given_, true)) segment_ = "\n";
  }

 private:
  void fill_segment(const std::string& text) {
    size_t last_space = 0;  // in the segment
    while (at_ < text.size()) {
      const std::string_view character = std::string_view(text).substr(at_, character_bytes(text[at_]));
      if (alphabet_.find(character) == alphabet_.end()) {
        at_ += character.size();
        return;
      }
      if (segment_.size() + character.size() > kMaxSegmentBytes) {
        if (last_space > 0) {
          at_ -= segment_.size() - last_space;
          segment_.resize(last_space);
        }
        return;
      }
      if (character == " ") last_space = segment_.size();
      segment_ += character;
      at_ += character.size();
    }
  }

  const std::vector<std::string>& texts_;
  const Alphabet& alphabet_;
  size_t text_ = 0, at_ = 0;
  bool line_feed_given_ = false;
  std::string segment_;
};

sentencepiece::TrainerSpec trainer_settings(const TokenizerTraining& config) {
  sentencepiece::TrainerSpec settings;
  settings.set_model_type(config.model_type == "bpe" ? sentencepiece::TrainerSpec::BPE
                                                     : sentencepiece::TrainerSpec::UNIGRAM);
  settings.set_vocab_size(static_cast<int32_t>(config.vocabulary_size));
  settings.set_hard_vocab_limit(false);  // the size is checked afterwards, by us
  settings.set_byte_fallback(true);
  settings.set_character_coverage(1.0f);  // of the segments, which hold alphabet characters only
  settings.set_unk_id(0);
  settings.set_eos_id(1);
  settings.set_bos_id(-1);
  settings.set_pad_id(-1);
  settings.set_unk_piece(std::string(detail::kUnknownPiece));
  settings.set_eos_piece(std::string(detail::kEndPiece));
  settings.set_num_threads(1);
  return settings;
}

sentencepiece::NormalizerSpec identity_normalization() {
  sentencepiece::NormalizerSpec settings;
  settings.set_name("identity");
  settings.set_add_dummy_prefix(false);
  settings.set_remove_extra_whitespaces(false);
  settings.set_escape_whitespaces(true);
  return settings;
}

/// A model of at most the size asked, in bytes.
std::string train(const TokenizerTraining& config, const std::vector<std::string>& texts) {
  const Alphabet alphabet = choose_alphabet(texts, config.vocabulary_size);
  Segments segments(texts, alphabet);
  std::string model;
  const auto status =
      sentencepiece::SentencePieceTrainer::Train(trainer_settings(config), identity_normalization(), &segments, &model);
  if (!status.ok()) throw DataError(cat("SentencePiece could not train a model: ", status.ToString()));
  return model;
}

/// The largest size that gives as many ids as asked for; `size` is what a larger one gave.
int64_t largest_size(TokenizerTraining config, const std::vector<std::string>& texts, int64_t size) {
  while (size >= kMinVocabulary && size < config.vocabulary_size) {
    config.vocabulary_size = size;
    size = detail::parse_model(train(config, texts), "trained model")->pieces_size();
  }
  return size;
}

}  // namespace

void validate_config(const TokenizerTraining& config, ConfigProblems& problems) {
  if (config.vocabulary_size < kMinVocabulary || config.vocabulary_size > kMaxVocabulary) {
    problems.add("vocabulary_size",
                 cat("is ", config.vocabulary_size, ", must be in [", kMinVocabulary, ", ", kMaxVocabulary, "]"));
  }
  if (config.model_type != "unigram" && config.model_type != "bpe") {
    problems.add("model_type", cat("is '", config.model_type, "', must be unigram or bpe"));
  }
  if (config.max_sentences < 1) problems.add("max_sentences", cat("is ", config.max_sentences, ", must be >= 1"));
}

std::string train_text_tokenizer(const TokenizerTraining& config, const std::function<bool(std::string& text)>& next) {
  ConfigProblems problems;
  validate_config(config, problems);
  problems.throw_if_any();
  detail::silence_sentencepiece();
  const std::vector<std::string> texts = collect_texts(config, next);
  if (texts.empty()) throw ConfigError("there is no text to train a text tokenizer on");
  std::string model = train(config, texts);
  const int64_t size = detail::parse_model(model, "trained model")->pieces_size();
  if (size == config.vocabulary_size) return model;
  const int64_t largest = largest_size(config, texts, size);
  const std::string remedy =
      largest < kMinVocabulary ? "give more text" : cat("set vocabulary_size to ", largest, " or give more text");
  throw ConfigError(cat("the ", texts.size(), " texts are too few for a vocabulary of ", config.vocabulary_size,
                        " ids; the largest possible has ", largest, ": ", remedy));
}

}  // namespace gato::tokenizer

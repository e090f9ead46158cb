#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/tokenizer/text_tokenizer.h"
#include "sentencepiece_trainer.h"
#include "tokenizer/model_file.h"

namespace gato::tokenizer {
namespace {

constexpr size_t kMaxTrainingBytes = size_t{128} << 20;  // The trainer needs about 24 bytes of memory for each.
constexpr size_t kMaxSegmentBytes = 4096;                // It passes over sentences that are longer than 4192 bytes.
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

/// What a model is trained on.
struct Corpus {
  std::vector<std::string> texts;
  /// The characters of the texts that may become pieces, the most frequent first.
  std::vector<std::string> characters;
  size_t num_covering = 0;  ///< The first of them that make up kCoverage of the texts.
};

void count_characters(Corpus& corpus) {
  std::unordered_map<std::string_view, int64_t> counts;
  int64_t total = 0;
  for (const std::string& text : corpus.texts) {
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
  int64_t covered = 0;
  for (const auto& [character, count] : sorted) {
    if (static_cast<double>(covered) < kCoverage * static_cast<double>(total)) ++corpus.num_covering;
    covered += count;
    corpus.characters.emplace_back(character);
  }
}

using Alphabet = std::set<std::string, std::less<>>;

/// The `count` most frequent characters and the line feed.
Alphabet alphabet_of(const Corpus& corpus, size_t count) {
  Alphabet alphabet(corpus.characters.begin(), corpus.characters.begin() + static_cast<std::ptrdiff_t>(count));
  alphabet.insert("\n");
  return alphabet;
}

constexpr char kUnknown = '\t';  // What the trainer takes for an unknown character; no piece contains it.

/// The text as the trainer sees it: characters outside the alphabet are unknown, and so is, if `mark_words`, a
/// character put behind every other word, beginning with word `first_marked`.
///
/// The marks are for the unigram trainer, which finds its first pieces as the inner nodes of a suffix tree: strings
/// that are followed by different characters. In texts made from templates many a word is always followed by the same
/// one, and would never be found ("same" in "the same words"). A mark behind some of its occurrences makes the
/// difference.
std::string text_for_training(const std::string& text, const Alphabet& alphabet, bool mark_words, size_t first_marked) {
  std::string made;
  size_t words = 0;
  const auto end_word = [&] {
    const bool is_word = !made.empty() && made.back() != ' ';
    if (mark_words && is_word && ++words % 2 == first_marked % 2) made += kUnknown;
  };
  for (size_t at = 0; at < text.size();) {
    const std::string_view character = std::string_view(text).substr(at, character_bytes(text[at]));
    at += character.size();
    if (character == " ") end_word();
    if (alphabet.find(character) == alphabet.end()) {
      made += kUnknown;
    } else {
      made += character;
    }
  }
  end_word();
  return made;
}

/// Bytes of the first segment of `text` that the trainer takes whole: cut before a space where possible, since pieces
/// never reach across one.
size_t segment_bytes(std::string_view text) {
  if (text.size() <= kMaxSegmentBytes) return text.size();
  const size_t space = text.rfind(' ', kMaxSegmentBytes);
  if (space != std::string_view::npos && space > 0) return space;
  size_t end = kMaxSegmentBytes;
  while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

/// Yields the texts as the trainer should see them, in segments short enough for it.
class Segments : public sentencepiece::SentenceIterator {
 public:
  Segments(const std::vector<std::string>& texts, const Alphabet& alphabet, bool mark_words)
      : texts_(texts), alphabet_(alphabet), mark_words_(mark_words) {
    Next();
  }

  bool done() const override { return segment_.empty(); }
  const std::string& value() const override { return segment_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (at_ == text_.size() && num_read_ < texts_.size()) {
      text_ = text_for_training(texts_[num_read_], alphabet_, mark_words_, num_read_);
      ++num_read_;
      at_ = 0;
    }
    const std::string_view left = std::string_view(text_).substr(at_);
    segment_ = left.substr(0, segment_bytes(left));
    at_ += segment_.size();
    // Always the last one, so that the line feed gets a piece and the trainer never sees an empty alphabet, at which it
    // would end the process.
    if (segment_.empty() && !std::exchange(line_feed_given_, true)) segment_ = "\n";
  }

 private:
  const std::vector<std::string>& texts_;
  const Alphabet& alphabet_;
  bool mark_words_;
  std::string text_, segment_;
  size_t num_read_ = 0, at_ = 0;
  bool line_feed_given_ = false;
};

sentencepiece::TrainerSpec trainer_settings(const TokenizerTraining& config) {
  sentencepiece::TrainerSpec settings;
  settings.set_model_type(config.model_type == "bpe" ? sentencepiece::TrainerSpec::BPE
                                                     : sentencepiece::TrainerSpec::UNIGRAM);
  settings.set_vocab_size(static_cast<int32_t>(config.vocabulary_size));
  settings.set_hard_vocab_limit(false);  // the size is checked afterwards, by us
  settings.set_byte_fallback(true);
  settings.set_character_coverage(1.0f);  // of the segments, whose other characters are unknown already
  settings.set_required_chars("\n");
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

std::string train_once(const TokenizerTraining& config, const Corpus& corpus, size_t alphabet_size) {
  const Alphabet alphabet = alphabet_of(corpus, alphabet_size);
  Segments segments(corpus.texts, alphabet, config.model_type == "unigram");
  std::string model;
  const auto status =
      sentencepiece::SentencePieceTrainer::Train(trainer_settings(config), identity_normalization(), &segments, &model);
  if (!status.ok()) throw DataError(cat("SentencePiece could not train a model: ", status.ToString()));
  return model;
}

struct Trained {
  std::string model;
  int64_t size = 0;
};

/// A model of the size asked, or the largest one possible below it. Single characters get at most half of the
/// vocabulary, unless the texts repeat too little for longer pieces.
Trained train(const TokenizerTraining& config, const Corpus& corpus) {
  const auto room = static_cast<size_t>(config.vocabulary_size - kFixedPieces);
  size_t alphabet_size = std::min(corpus.num_covering, room / 2);
  while (true) {
    Trained trained{train_once(config, corpus, alphabet_size), 0};
    trained.size = detail::parse_model(trained.model, "trained model")->pieces_size();
    if (trained.size == config.vocabulary_size || alphabet_size == corpus.characters.size()) return trained;
    const auto missing = static_cast<size_t>(config.vocabulary_size - trained.size);
    alphabet_size = std::min(alphabet_size + missing, corpus.characters.size());
  }
}

/// The largest size that gives as many ids as asked for; `size` is what a larger one gave.
int64_t largest_size(TokenizerTraining config, const Corpus& corpus, int64_t size) {
  while (size >= kMinVocabulary && size < config.vocabulary_size) {
    config.vocabulary_size = size;
    size = train(config, corpus).size;
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
  Corpus corpus;
  corpus.texts = collect_texts(config, next);
  if (corpus.texts.empty()) throw ConfigError("there is no text to train a text tokenizer on");
  count_characters(corpus);
  Trained trained = train(config, corpus);
  if (trained.size == config.vocabulary_size) return std::move(trained.model);
  const int64_t largest = largest_size(config, corpus, trained.size);
  const std::string remedy =
      largest < kMinVocabulary ? "give more text" : cat("set vocabulary_size to ", largest, " or give more text");
  throw ConfigError(cat("the ", corpus.texts.size(), " texts are too few for a vocabulary of ", config.vocabulary_size,
                        " ids; the largest possible has ", largest, ": ", remedy));
}

}  // namespace gato::tokenizer

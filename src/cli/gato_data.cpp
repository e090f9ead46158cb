#include <iostream>

#include "data_verbs.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/data/source.h"
#include "gato/data/statistics.h"
#include "gato/data/tokenize.h"
#include "gato/env/collect.h"
#include "gato/episode/inspect.h"
#include "gato/tokenizer/numbers.h"
#include "program.h"

namespace gato::cli {
namespace {

std::vector<Path> shards_of(const std::vector<std::string>& datasets) {
  data::DataConfig config;
  config.datasets = datasets;
  return data::find_shards(config);
}

// ------------------------------------------------------------------------------------------------------------ collect

struct CollectArguments {
  std::string suite = "demo", out = "datasets";
  uint64_t seed = 0;
  int threads = 0;
  double scale = 1;
  std::optional<int64_t> reference_episodes;
};

std::string return_text(const episode::ReturnRecord& record) {
  return record.episodes == 0 ? "-" : format_fixed(record.mean, 2);
}

int collect(const CollectArguments& arguments) {
  set_thread_budget(arguments.threads);
  env::CollectOptions options;
  options.out = arguments.out;
  options.seed = arguments.seed;
  options.threads = arguments.threads;
  options.episodes_scale = arguments.scale;
  options.reference_episodes = arguments.reference_episodes;
  const auto summaries = env::collect(env::load_suite(arguments.suite), options);
  std::cout << "task  episodes  steps  mean return  expert  random\n";
  for (const env::CollectSummary& task : summaries) {
    std::cout << task.task << "  " << task.episodes << "  " << task.steps << "  " << format_fixed(task.mean_return, 2)
              << "  " << return_text(task.expert) << "  " << return_text(task.random)
              << (task.failed > 0 ? cat("  (", task.failed, " episodes failed)") : "")
              << (task.reused ? "  (was there already)" : "") << "\n";
  }
  std::cout << "data sets are in " << arguments.out << "\n";
  return kDone;
}

Verb add_collect(CLI::App& app) {
  auto arguments = std::make_shared<CollectArguments>();
  auto* verb = app.add_subcommand("collect", "Let experts play the tasks of a suite, and record them as data sets");
  verb->add_option("--suite", arguments->suite, "Name in configs/suites, or a file");
  verb->add_option("--out", arguments->out, "Folder for the data sets");
  verb->add_option("--seed", arguments->seed, "Seed; the same seed gives the same files");
  verb->add_option("--threads", arguments->threads, "0: all processors; the files do not depend on it")
      ->check(CLI::Range(0, 4096));
  verb->add_option("--scale", arguments->scale, "Multiplies the number of episodes of every task");
  verb->add_option("--reference-episodes", arguments->reference_episodes,
                   "Episodes that measure expert and random returns; default: what was measured before "
                   "(data/environments), else 100");
  return [verb, arguments] { return verb->parsed() ? collect(*arguments) : -1; };
}

// ----------------------------------------------------------------------------------------------- train-tokenizer,
// tokenize

struct TokenizerArguments {
  std::string out = "tokenizer.model";
  std::vector<std::string> datasets;
  tokenizer::TokenizerTraining training;
};

int train_tokenizer(const TokenizerArguments& arguments) {
  ConfigProblems problems;
  validate_config(arguments.training, problems);
  problems.throw_if_any();
  const auto texts = data::texts_of(shards_of(arguments.datasets));
  Progress progress("reading texts", 0, "texts");
  const std::string model = tokenizer::train_text_tokenizer(arguments.training, [&](std::string& text) {
    throw_if_stopped("training the tokenizer");
    const bool more = texts(text);
    progress.add(more ? 1 : 0);
    return more;
  });
  progress.finish();
  write_file_atomic(arguments.out, model);
  const auto text = tokenizer::TextTokenizer::from_bytes(model, arguments.out);
  std::cout << arguments.out << ": " << text.size() << " pieces, digest " << text.digest() << "\n";
  return kDone;
}

Verb add_train_tokenizer(CLI::App& app) {
  auto arguments = std::make_shared<TokenizerArguments>();
  auto* verb = app.add_subcommand("train-tokenizer", "Train a SentencePiece text tokenizer on the texts of data sets");
  verb->add_option("datasets", arguments->datasets, "Folders of shards")->required();
  verb->add_option("--out", arguments->out, "Model file to write");
  verb->add_option("--size", arguments->training.vocabulary_size, "Number of pieces");
  verb->add_option("--type", arguments->training.model_type, "unigram or bpe");
  verb->add_option("--max-texts", arguments->training.max_sentences, "Texts used at most");
  return [verb, arguments] { return verb->parsed() ? train_tokenizer(*arguments) : -1; };
}

struct TokenizeArguments {
  std::string tokenizer;
  std::vector<std::string> datasets;
};

int tokenize(const TokenizeArguments& arguments) {
  const auto text = tokenizer::TextTokenizer::load(arguments.tokenizer);
  const std::vector<Path> shards = shards_of(arguments.datasets);
  std::vector<data::TokenizedShard> done(shards.size());
  Progress progress("tokenizing", static_cast<int64_t>(shards.size()), "shards");
  parallel_for(static_cast<int64_t>(shards.size()), [&](int64_t i) {
    throw_if_stopped("tokenizing");
    done[static_cast<size_t>(i)] = data::tokenize_shard(shards[static_cast<size_t>(i)], text);
    static_cast<void>(data::statistics_of(shards[static_cast<size_t>(i)]));
    progress.add();
  });
  progress.finish();
  int64_t texts = 0, tokens = 0, reused = 0;
  for (const data::TokenizedShard& shard : done) {
    texts += shard.texts;
    tokens += shard.tokens;
    reused += shard.reused ? 1 : 0;
  }
  std::cout << shards.size() << " shards: " << texts << " texts, " << tokens << " tokens written; " << reused
            << " shards had their tokens already\n";
  return kDone;
}

Verb add_tokenize(CLI::App& app) {
  auto arguments = std::make_shared<TokenizeArguments>();
  auto* verb = app.add_subcommand(
      "tokenize", "Write the token columns of data sets with text (once per tokenizer), and statistics");
  verb->add_option("datasets", arguments->datasets, "Folders of shards")->required();
  verb->add_option("--tokenizer", arguments->tokenizer, "SentencePiece model file")
      ->required()
      ->check(CLI::ExistingFile);
  return [verb, arguments] { return verb->parsed() ? tokenize(*arguments) : -1; };
}

// ------------------------------------------------------------------------------------------------------ inspect,
// verify

Verb add_inspect(CLI::App& app) {
  struct Arguments {
    std::vector<std::string> datasets;
    episode::InspectOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand("inspect", "Show shards as a person wants to see them");
  verb->add_option("datasets", arguments->datasets, "Shards or folders of shards")->required();
  verb->add_option("--episode", arguments->options.episode, "Episode whose first steps are shown");
  verb->add_option("--steps", arguments->options.steps, "Steps shown");
  return [verb, arguments] {
    if (!verb->parsed()) return -1;
    for (const Path& path : shards_of(arguments->datasets)) {
      std::cout << episode::describe_shard(episode::ShardReader(path), arguments->options) << "\n";
      for (const data::TaskStatistics& task : data::statistics_of(path).statistics.tasks) {
        std::cout << data::describe_statistics(task) << "\n";
      }
    }
    return static_cast<int>(kDone);
  };
}

Verb add_verify(CLI::App& app) {
  auto datasets = std::make_shared<std::vector<std::string>>();
  auto* verb = app.add_subcommand("verify", "Check every byte of shards and token columns against their checksums");
  verb->add_option("datasets", *datasets, "Shards or folders of shards")->required();
  return [verb, datasets] {
    if (!verb->parsed()) return -1;
    int64_t damaged = 0;
    const std::vector<Path> shards = shards_of(*datasets);
    Progress progress("verifying", static_cast<int64_t>(shards.size()), "shards");
    for (const Path& path : shards) {
      throw_if_stopped("verifying");
      const std::vector<std::string> damages = episode::verify_files(path);
      for (const std::string& damage : damages) std::cout << damage << "\n";
      damaged += damages.empty() ? 0 : 1;
      progress.add();
    }
    progress.finish();
    std::cout << shards.size() << " shards checked, " << damaged << " damaged\n";
    return static_cast<int>(damaged == 0 ? kDone : kFailed);
  };
}

Verb add_check_numbers(CLI::App& app) {
  auto* verb = app.add_subcommand("check-numbers",
                                  "Check the conversion of all 2^32 floats to bins, fast path against definition");
  return [verb] {
    if (!verb->parsed()) return -1;
    Progress progress("checking all floats", 100, "percent");
    const tokenizer::NumberCheck check = tokenizer::check_all_floats([&](double share) {
      throw_if_stopped("checking numbers");
      progress.set(static_cast<int64_t>(100 * share));
    });
    progress.finish();
    std::cout << check.checked << " floats checked, " << check.mismatches << " wrong"
              << (check.mismatches > 0 ? "; first: " + check.first_mismatch : "") << "\n";
    return static_cast<int>(check.mismatches == 0 ? kDone : kFailed);
  };
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) {
  using namespace gato::cli;
  return run_program(
      argc, argv, "Makes, tokenizes, shows and checks data sets.", base_libraries(), [](CLI::App& app) -> Verb {
        app.require_subcommand(1);
        const std::vector<Verb> verbs = {add_collect(app),    add_train_tokenizer(app), add_tokenize(app),
                                         add_inspect(app),    add_verify(app),          add_check_numbers(app),
                                         add_import(app),     add_explain(app),         add_filter(app),
                                         add_statistics(app), add_environments(app)};
        return [verbs] {
          for (const Verb& verb : verbs) {
            const int code = verb();
            if (code >= 0) return code;
          }
          return static_cast<int>(kUsage);
        };
      });
}

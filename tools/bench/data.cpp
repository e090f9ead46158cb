// Measures the data engine on data that it makes itself; tools/bench/data runs it beside PyTorch and makes the table.
//
//   bench_data make DIR [--long]      data sets, and the same values as plain files for the peer
//   bench_data run DIR CASE SECONDS   one turn; prints one line of JSON: {"case", "items", "seconds", "unit", ...}
//   bench_data memory DIR ROWS        resident memory over ROWS rows; a line of JSON per tenth
//   bench_data open DIR               opens the million documents of `make --long` and builds the first row
#include <sentencepiece_processor.h>
#include <time.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/data/batch.h"
#include "gato/data/open.h"
#include "gato/data/tokenize.h"
#include "gato/episode/resident.h"
#include "gato/tokenizer/numbers.h"

namespace {

using namespace gato;
using Clock = std::chrono::steady_clock;

constexpr int64_t kControlEpisodes = 400, kControlSteps = 1000, kObserved = 17, kActed = 6;
constexpr int64_t kImages = 512, kSide = 256;
constexpr int64_t kLongDocuments = 1'000'000;
constexpr int64_t kTextSize = 4096;
constexpr int64_t kRowTokens = 1024;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Processor time of this thread: turns are on one thread and read what the page cache holds, so it is the time per
/// core, whoever else is at work.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

episode::FieldSpec numbers(std::string name, int64_t size) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kContinuous;
  field.shape = {size};
  field.low = {-1};
  field.high = {1};
  return field;
}

episode::TaskSpec document_task() {
  episode::TaskSpec task;
  task.id = "text/bench";
  task.action.resize(1);
  task.action[0].name = "text";
  task.action[0].modality = episode::Modality::kText;
  task.scoring = episode::Scoring::kLoss;
  return task;
}

// ------------------------------------------------------------------------------------------------------------- making

void make_control(const Path& folder) {
  episode::TaskSpec task;
  task.id = "control/bench";
  task.observation = {numbers("state", kObserved)};
  task.action = {numbers("torque", kActed)};
  episode::DatasetWriter writer(folder / "control", {"control", "", "", "bench"}, {task}, uint64_t{8} << 20);
  std::ofstream plain(folder / "control.f32", std::ios::binary);
  for (int64_t e = 0; e < kControlEpisodes; ++e) {
    Rng rng(mix_seed(1, {static_cast<uint64_t>(e)}));
    episode::Episode made;
    made.id = cat("control#", e);
    made.num_steps = kControlSteps;
    made.observation.resize(1);
    made.action.resize(1);
    for (int64_t s = 0; s < kControlSteps; ++s) {
      std::vector<float> row;
      for (int64_t i = 0; i < kObserved + kActed; ++i) row.push_back(static_cast<float>(rng.uniform(-1, 1)));
      auto& observed = made.observation[0].continuous;
      auto& acted = made.action[0].continuous;
      observed.insert(observed.end(), row.begin(), row.begin() + kObserved);
      acted.insert(acted.end(), row.begin() + kObserved, row.end());
      plain.write(reinterpret_cast<const char*>(row.data()), static_cast<std::streamsize>(row.size() * sizeof(float)));
    }
    writer.add(0, made);
  }
  writer.finish();
}

/// Texts of a few hundred bytes out of the corpus.
std::vector<std::string> documents_of(const std::string& corpus) {
  std::vector<std::string> documents;
  std::string document;
  for (const std::string& line : split(corpus, '\n')) {
    document += line + "\n";
    if (document.size() < 2000) continue;
    documents.push_back(std::move(document));
    document.clear();
  }
  return documents;
}

void make_text(const Path& folder, const Path& corpus) {
  const std::vector<std::string> documents = documents_of(read_file(corpus));
  episode::DatasetWriter writer(folder / "text", {"text", "", "", "bench"}, {document_task()}, uint64_t{1} << 20);
  for (size_t i = 0; i < documents.size(); ++i) {
    episode::Episode made;
    made.id = cat("text#", i);
    made.num_steps = 1;
    made.action.resize(1);
    made.action[0].text = {documents[i]};
    writer.add(0, made);
  }
  writer.finish();
  tokenizer::TokenizerTraining training;
  training.vocabulary_size = kTextSize;
  const std::string model = train_text_tokenizer(training, data::texts_of(writer.shards()));
  write_file_atomic(folder / "text.model", model);
  const auto text = tokenizer::TextTokenizer::from_bytes(model, "text.model");
  std::ofstream plain(folder / "text.u16", std::ios::binary);
  for (const std::string& document : documents) {
    for (const int32_t id : text.encode(document)) {
      const auto narrow = static_cast<uint16_t>(id);
      plain.write(reinterpret_cast<const char*>(&narrow), sizeof(narrow));
    }
    const auto end = static_cast<uint16_t>(text.end_id());
    plain.write(reinterpret_cast<const char*>(&end), sizeof(end));
  }
  for (const Path& shard : writer.shards()) data::tokenize_shard(shard, text);
}

/// Smooth shapes with some noise: compresses as photographs do, to some 25 KiB.
episode::Image picture(int64_t number) {
  Rng rng(mix_seed(2, {static_cast<uint64_t>(number)}));
  episode::Image image{static_cast<int32_t>(kSide), static_cast<int32_t>(kSide), {}};
  const double a = rng.uniform(0.01, 0.1), b = rng.uniform(0.01, 0.1), phase = rng.uniform(0, 6);
  image.pixels.reserve(static_cast<size_t>(kSide * kSide * 3));
  for (int64_t y = 0; y < kSide; ++y) {
    for (int64_t x = 0; x < kSide; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        const double wave = std::sin(a * static_cast<double>(x) + b * static_cast<double>(y) + phase + channel);
        image.pixels.push_back(static_cast<uint8_t>(120 + 90 * wave + static_cast<double>(rng.below(24))));
      }
    }
  }
  return image;
}

void make_images(const Path& folder) {
  episode::TaskSpec task;
  task.id = "images/bench";
  task.observation.resize(1);
  task.observation[0].name = "image";
  task.observation[0].modality = episode::Modality::kImage;
  task.observation[0].shape = {kSide, kSide, 3};
  task.observation[0].codec = episode::ImageCodec::kJpeg;
  task.action.resize(1);
  task.action[0].name = "label";
  task.action[0].modality = episode::Modality::kDiscrete;
  task.action[0].num_values = 10;
  episode::DatasetWriter writer(folder / "images", {"images", "", "", "bench"}, {task}, uint64_t{4} << 20);
  for (int64_t i = 0; i < kImages; ++i) {
    episode::Episode made;
    made.id = cat("image#", i);
    made.num_steps = 1;
    made.observation.resize(1);
    made.observation[0].images = {picture(i)};
    made.action.resize(1);
    made.action[0].discrete = {static_cast<int32_t>(i % 10)};
    writer.add(0, made);
  }
  writer.finish();
  // The peer gets the very bytes that the shards hold.
  make_folders(folder / "jpeg");
  int64_t number = 0;
  for (const Path& path : writer.shards()) {
    const episode::ShardReader shard(path);
    for (uint64_t step = 0; step < shard.num_steps(0); ++step, ++number) {
      const auto bytes = shard.encoded_image(0, episode::Group::kObservation, 0, step);
      std::ofstream file(folder / "jpeg" / cat(100000 + number, ".jpg"), std::ios::binary);
      file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
  }
}

/// A million documents of eight to forty tokens. The text itself is not looked at once there are token columns.
void make_long(const Path& folder) {
  const auto text = tokenizer::TextTokenizer::load(folder / "text.model");
  episode::DatasetWriter writer(folder / "long", {"long", "", "", "bench"}, {document_task()}, uint64_t{8} << 20);
  for (int64_t e = 0; e < kLongDocuments; ++e) {
    episode::Episode made;
    made.id = cat("long#", e);
    made.num_steps = 1;
    made.action.resize(1);
    made.action[0].text = {cat("document number ", e)};
    writer.add(0, made);
  }
  writer.finish();
  Rng rng(3);
  for (const Path& path : writer.shards()) {
    const episode::ShardReader shard(path);
    episode::TokenColumns columns;
    columns.tokenizer_digest = text.digest();
    columns.shard_fingerprint = shard.fingerprint();
    episode::TokenColumns::Field field{episode::Group::kAction, 0, {0}, {}};
    for (size_t e = 0; e < shard.index().size(); ++e) {
      for (int64_t i = 8 + rng.below(33); i > 0; --i)
        field.tokens.push_back(static_cast<uint32_t>(2 + rng.below(4000)));
      field.offsets.push_back(field.tokens.size());
    }
    columns.tasks = {{std::move(field)}};
    write_token_columns(episode::token_columns_path(path), columns);
  }
}

// ---------------------------------------------------------------------------------------------------------- measuring

struct Turn {
  double items = 0, seconds = 0;
  std::string unit;
  std::string stages = "";
};

struct Opened {
  std::unique_ptr<tokenizer::TextTokenizer> text;
  std::shared_ptr<const data::RowPlan> plan;
};

Opened open(const Path& folder, const std::string& dataset, data::WindowSteps steps, int64_t cache_mib = 1024) {
  Opened opened;
  opened.text = std::make_unique<tokenizer::TextTokenizer>(tokenizer::TextTokenizer::load(folder / "text.model"));
  data::DataConfig config;
  config.datasets = {(folder / dataset).string()};
  config.row_tokens = kRowTokens;
  config.cache_mib = cache_mib;
  data::MixtureEntry entry;
  entry.tasks = "*";
  entry.steps = steps;
  config.schedule = {{}};
  config.schedule[0].mixture = {entry};
  const tokenizer::Vocabulary vocabulary(opened.text->size(), false);
  opened.plan = std::make_shared<const data::RowPlan>(
      config, data::open_sources(config, vocabulary, opened.text.get(), data::Split::kTraining), 1);
  return opened;
}

/// Rows on one thread for some seconds; items are tokens, or images.
Turn rows(const Path& folder, const std::string& dataset, data::WindowSteps steps, double seconds, bool images) {
  const Opened opened = open(folder, dataset, steps);
  const data::RowBuilder builder(opened.plan, true);
  data::StageSeconds stages;
  Turn turn;
  turn.unit = images ? "images/s" : "tokens/s";
  static_cast<void>(builder.build(0, 64));  // first touch of memory
  const double begin = processor_seconds();
  for (int64_t row = 64; turn.seconds < seconds; row += 16) {
    const data::Batch batch = builder.build(row, 16, &stages);
    const auto patches = static_cast<double>(batch.patch_index.size());
    turn.items += images ? patches * 256 / static_cast<double>(kSide * kSide) : static_cast<double>(batch.tokens);
    turn.seconds = processor_seconds() - begin;
  }
  data::LoaderStages shown;
  shown.work = stages;
  turn.stages = shown.text();
  return turn;
}

/// Whatever `work` does in a row, which returns how many items it did.
Turn repeated(double seconds, const std::string& unit, const std::function<double()>& work) {
  static_cast<void>(work());
  Turn turn;
  turn.unit = unit;
  const double begin = processor_seconds();
  while (turn.seconds < seconds) {
    turn.items += work();
    turn.seconds = processor_seconds() - begin;
  }
  return turn;
}

Turn bins(double seconds) {
  Rng rng(4);
  std::vector<float> values(1 << 16);
  for (float& value : values) value = static_cast<float>(rng.normal());
  std::vector<int32_t> ids(values.size());
  return repeated(seconds, "values/s", [&] {
    static_cast<void>(tokenizer::observation_ids(values, 0, ids));
    return static_cast<double>(values.size());
  });
}

/// Bytes per second of our encoder, or of the library's own.
Turn encoding(const Path& folder, const Path& corpus, double seconds, bool ours) {
  const std::vector<std::string> documents = documents_of(read_file(corpus));
  const auto text = tokenizer::TextTokenizer::load(folder / "text.model");
  sentencepiece::SentencePieceProcessor library;
  const std::string model = read_file(folder / "text.model");
  GATO_CHECK(library.LoadFromSerializedProto(model).ok(), "the library does not load the model");
  size_t next = 0;
  std::vector<int> ids;
  return repeated(seconds, "bytes/s", [&] {
    const std::string& document = documents[next++ % documents.size()];
    if (ours) {
      static_cast<void>(text.encode(document));
    } else {
      GATO_CHECK(library.Encode(document, &ids).ok(), "the library does not encode");
    }
    return static_cast<double>(document.size());
  });
}

Turn run(const Path& folder, const Path& corpus, const std::string& name, double seconds) {
  if (name == "control/step") return rows(folder, "control", {1, 1, false}, seconds, false);
  if (name == "control/row") return rows(folder, "control", {1, 1, true}, seconds, false);
  if (name == "text/row") return rows(folder, "text", {1, 1, true}, seconds, false);
  if (name == "images") return rows(folder, "images", {1, 1, false}, seconds, true);
  if (name == "numbers") return bins(seconds);
  if (name == "sentencepiece/ours") return encoding(folder, corpus, seconds, true);
  if (name == "sentencepiece/library") return encoding(folder, corpus, seconds, false);
  throw ConfigError(cat("no case ", name));
}

double resident_mib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stod(line.substr(key.size() + 1)) / 1024;
  }
  return 0;
}

void memory(const Path& folder, int64_t rows) {
  constexpr int64_t kCacheMib = 16;
  const Opened opened = open(folder, "control", {1, 1, true}, kCacheMib);
  data::Loader loader(std::make_shared<const data::RowBuilder>(opened.plan, true), 0, 64, 0, 1, 1, 4);
  for (int64_t row = 0, next_report = rows / 10; row < rows;) {
    row += loader.next().rows;
    if (row < next_report) continue;
    next_report += rows / 10;
    const episode::ResidentStatistics cache = episode::resident_statistics();
    std::cout << nlohmann::json{{"rows", row},
                                {"resident_mib", resident_mib("VmRSS:")},
                                {"mapped_mib", resident_mib("RssFile:")},
                                {"cap_mib", static_cast<double>(cache.cap_bytes) / (1 << 20)},
                                {"pinned_mib", static_cast<double>(cache.pinned_bytes) / (1 << 20)}}
                     .dump()
              << std::endl;
  }
}

/// As a run opens its data: both splits, and the record of what was opened.
void open_long(const Path& folder) {
  data::DataConfig config;
  config.datasets = {(folder / "long").string()};
  config.row_tokens = kRowTokens;
  tokenizer::TokenizerConfig tokens;
  tokens.model = (folder / "text.model").string();
  const auto begin = Clock::now();
  const data::OpenedData opened = data::open_data(config, tokens, {.seed = 1});
  const double opening = seconds_since(begin);
  int64_t documents = 0;
  for (const auto& plan : {opened.plan, opened.validation_plan}) {
    for (const auto& source : plan->sources()) documents += source->num_episodes();
  }
  static_cast<void>(data::RowBuilder(opened.plan, true).build(0, 1));
  std::cout << nlohmann::json{{"documents", documents}, {"open", opening}, {"first_row", seconds_since(begin)}}.dump()
            << std::endl;
}

int run_program(const std::vector<std::string>& arguments) {
  const Path corpus = Path(GATO_SOURCE_DIR) / "data/text/kjv.txt";
  if (arguments.size() < 2) throw ConfigError("give make DIR, run DIR CASE SECONDS, memory DIR ROWS or open DIR");
  const std::string& verb = arguments[0];
  const Path folder = arguments[1];
  if (verb == "make") {
    make_folders(folder);
    const bool with_long = arguments.size() > 2 && arguments[2] == "--long";
    if (!std::filesystem::exists(folder / "made")) {
      make_control(folder);
      make_text(folder, corpus);
      make_images(folder);
      write_file_atomic(folder / "made", "");
    }
    if (with_long && !std::filesystem::exists(folder / "made_long")) {
      make_long(folder);
      write_file_atomic(folder / "made_long", "");
    }
  } else if (verb == "run" && arguments.size() == 4) {
    const Turn turn = run(folder, corpus, arguments[2], std::stod(arguments[3]));
    std::cout << nlohmann::json{{"case", arguments[2]},
                                {"items", turn.items},
                                {"seconds", turn.seconds},
                                {"unit", turn.unit},
                                {"stages", turn.stages}}
                     .dump()
              << std::endl;
  } else if (verb == "memory" && arguments.size() == 3) {
    memory(folder, std::stoll(arguments[2]));
  } else if (verb == "open") {
    open_long(folder);
  } else {
    throw ConfigError(cat("what is '", join(arguments, " "), "'? The head of tools/bench/data.cpp lists the verbs"));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_program({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "bench_data: " << error.what() << "\n";
    return 1;
  }
}

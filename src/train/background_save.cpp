#include "background_save.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"

namespace gato::train {
namespace {

constexpr std::string_view kWell = "well\n", kFailed = "failed\n";

/// Memory on the CPU for what is kept like `live`, all of it touched: the first touch of a page costs more than a copy.
at::Tensor make_snapshot(int64_t elements, const at::Tensor& live) {
  at::Tensor copy = at::empty({elements}, at::TensorOptions().dtype(live.dtype()).pinned_memory(!live.is_cpu()));
  return copy.fill_(0);
}

void copy_buffer(const at::Tensor& live, const at::Tensor& copy) {
  if (!live.is_cpu()) {
    copy.copy_(live);
    return;
  }
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  const auto bytes = static_cast<int64_t>(live.nbytes());
  const auto* from = static_cast<const std::byte*>(live.const_data_ptr());
  auto* to = static_cast<std::byte*>(copy.mutable_data_ptr());
  at::parallel_for(0, (bytes + kPieceBytes - 1) / kPieceBytes, 1, [&](int64_t first, int64_t last) {
    const int64_t begin = first * kPieceBytes, end = std::min(bytes, last * kPieceBytes);
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
  });
}

/// What went wrong at the ranks; "" when all parts are well. `entries` receives the files of the others.
std::string problems_of(const std::vector<std::string>& parts, std::vector<checkpoint::FileEntry>& entries) {
  std::vector<std::string> problems;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    const std::string_view part = parts[rank];
    if (!part.starts_with(kWell)) {
      problems.push_back(cat("rank ", rank, ": ", part.substr(std::min(part.size(), kFailed.size()))));
      continue;
    }
    const auto files = checkpoint::parse_entries(part.substr(kWell.size()), cat("the part of rank ", rank));
    entries.insert(entries.end(), files.begin(), files.end());
  }
  return join(problems, "; ");
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

std::string to_json(const SaveOutcome& outcome) {
  Json json = {{"step", outcome.step},
               {"tokens", outcome.tokens},
               {"saved", outcome.saved},
               {"problem", outcome.problem},
               {"stall_seconds", outcome.stall_seconds},
               {"seconds", outcome.seconds}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

SaveOutcome parse_save_outcome(const std::string& text) {
  const std::string origin = "the outcome of a save";
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  SaveOutcome outcome;
  outcome.step = fields.integer("step", 0);
  outcome.tokens = fields.integer("tokens", 0);
  outcome.saved = fields.boolean("saved");
  outcome.problem = fields.text("problem");
  outcome.stall_seconds = fields.number("stall_seconds");
  outcome.seconds = fields.number("seconds");
  fields.finish();
  return outcome;
}

BackgroundSaver::BackgroundSaver(const model::ParameterStore& store, const OptimizerState& optimizer,
                                 SaverOptions options)
    : store_(store), optimizer_(optimizer), options_(std::move(options)) {
  GATO_CHECK(options_.place.rank >= 0 && options_.place.rank < options_.place.size, "rank ", options_.place.rank,
             " of ", options_.place.size);
  moments_.ranges = optimizer_.ranges;
  if (!options_.background) return;
  if (options_.place.rank == 0) values_ = make_snapshot(store_.num_elements(), store_.values());
  if (options_.place.rank == 0 || !optimizer_.ranges.empty()) {
    const int64_t elements = optimizer_.first_moment.numel();
    moments_.first_moment = make_snapshot(elements, optimizer_.first_moment);
    moments_.second_moment = make_snapshot(elements, optimizer_.second_moment);
  }
}

BackgroundSaver::~BackgroundSaver() { join(); }

BackgroundSaver::Stage BackgroundSaver::stage() const {
  const std::lock_guard lock(mutex_);
  return stage_;
}

void BackgroundSaver::set_stage(Stage stage) {
  const std::lock_guard lock(mutex_);
  stage_ = stage;
}

void BackgroundSaver::join() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundSaver::run(void (BackgroundSaver::*work)()) {
  join();
  if (options_.background) {
    thread_ = std::thread([this, work] { (this->*work)(); });
  } else {
    (this->*work)();
  }
}

void BackgroundSaver::start(SaveRequest request) {
  const auto begin = Clock::now();
  if (is_alone()) join();
  collect();
  GATO_CHECK(stage() == Stage::kIdle, "a save was started before the last one was committed");
  request_ = std::move(request);
  started_ = begin;
  // A new folder for every try: what a failed one left is not mixed in.
  unfinished_ = checkpoint::unfinished_path(options_.folder, request_.state.step, cat(options_.tag, ".", ++tries_));
  copy_buffers();
  set_stage(Stage::kWriting);
  if (options_.background) stall_seconds_ = seconds_since(begin);
  run(&BackgroundSaver::write);
  if (options_.background) return;
  // All of it, which end() could not know yet.
  stall_seconds_ = outcome_.stall_seconds = outcome_.seconds = seconds_since(begin);
}

void BackgroundSaver::copy_buffers() {
  const bool is_first = options_.place.rank == 0;
  if (options_.background) {
    if (!options_.gather_values && is_first) copy_buffer(store_.values(), values_);
    for (const auto& [live, copy] : {std::pair{&optimizer_.first_moment, &moments_.first_moment},
                                     {&optimizer_.second_moment, &moments_.second_moment}}) {
      if (copy->defined()) copy_buffer(*live, *copy);
    }
  } else {
    moments_.first_moment = optimizer_.first_moment.cpu();  // themselves where they are on the CPU
    moments_.second_moment = optimizer_.second_moment.cpu();
    if (!options_.gather_values) {
      values_ = store_.values().cpu();
    } else if (is_first) {
      values_ = at::empty({store_.num_elements()}, at::kFloat);
    }
  }
  if (options_.gather_values) options_.gather_values(values_);
}

/// The thread's work at every rank.
void BackgroundSaver::write() {
  try {
    write_files();
  } catch (const std::exception& error) {
    part_ = cat(kFailed, error.what());
  }
  if (!is_alone()) return set_stage(Stage::kWritten);
  parts_ = {part_};
  commit_parts();
}

void BackgroundSaver::write_files() {
  // First: whatever fails from here on, the writer removes the parts of all ranks.
  if (options_.place.rank == 0) {
    writer_.emplace(options_.folder, request_.state.step, cat(options_.tag, ".", tries_));
  }
  options_.check_space(options_.folder, saved_bytes(store_, moments_, options_.place));
  checkpoint::CheckpointPart part(unfinished_);
  write_part(part, store_, values_, moments_, request_, options_.place);
  part_ = cat(kWell, checkpoint::entries_to_text(part.entries()));
}

bool BackgroundSaver::busy() const { return stage() != Stage::kIdle || !outcomes_.empty(); }

bool BackgroundSaver::ended() const { return stage() == Stage::kDone || !outcomes_.empty(); }

bool BackgroundSaver::written() const {
  const Stage now = stage();
  return now != Stage::kIdle && now != Stage::kWriting;
}

std::string BackgroundSaver::part() {
  join();
  GATO_CHECK(stage() == Stage::kWritten, "a part was asked for without a save of several processes under way");
  return part_;
}

void BackgroundSaver::commit(const std::vector<std::string>& parts) {
  GATO_CHECK(static_cast<int64_t>(parts.size()) == options_.place.size, parts.size(), " parts of ", options_.place.size,
             " ranks");
  join();
  GATO_CHECK(stage() == Stage::kWritten, "commit() without a save of several processes under way");
  parts_ = parts;
  set_stage(Stage::kCommitting);
  if (options_.place.rank == 0) return run(&BackgroundSaver::commit_parts);
  std::string problem;
  try {
    std::vector<checkpoint::FileEntry> ignored;
    problem = problems_of(parts_, ignored);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  end(problem);
}

/// Rank 0's part of the end.
void BackgroundSaver::commit_parts() {
  std::string problem;
  try {
    give_name();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (writer_) {
    writer_.reset();  // which removes what got no name
  } else {
    std::error_code ignored;
    std::filesystem::remove_all(unfinished_, ignored);  // the parts of the others
  }
  if (problem.empty() && options_.committed && !request_.hurried) {
    try {
      options_.committed();
    } catch (const std::exception& error) {
      log::warning("train", "the checkpoint of step ", request_.state.step,
                   " is saved, but not what follows: ", error.what());
    }
  }
  end(problem);
}

void BackgroundSaver::give_name() {
  std::vector<checkpoint::FileEntry> entries;
  const std::string problem = problems_of(parts_, entries);
  if (!problem.empty()) throw CheckpointError(is_alone() ? part_.substr(kFailed.size()) : problem);
  writer_->add_entries(entries);
  set_facts(*writer_, request_, options_.place);
  writer_->commit({request_.verify});
}

void BackgroundSaver::end(const std::string& problem) {
  outcome_ = {.step = request_.state.step,
              .tokens = request_.state.tokens,
              .saved = problem.empty(),
              .problem = problem,
              .stall_seconds = stall_seconds_,
              .seconds = seconds_since(started_)};
  set_stage(Stage::kDone);
}

void BackgroundSaver::collect() {
  if (stage() != Stage::kDone) return;
  join();
  outcomes_.push_back(outcome_);
  request_ = {};
  if (!options_.background) values_ = at::Tensor();  // gathered ones are a copy
  set_stage(Stage::kIdle);
}

std::optional<SaveOutcome> BackgroundSaver::poll() {
  collect();
  if (outcomes_.empty()) return std::nullopt;
  const SaveOutcome outcome = outcomes_.front();
  outcomes_.erase(outcomes_.begin());
  return outcome;
}

std::optional<SaveOutcome> BackgroundSaver::wait() {
  if (!outcomes_.empty()) return poll();
  GATO_CHECK(is_alone() || stage() != Stage::kWritten, "wait() before commit()");
  join();
  return poll();
}

}  // namespace gato::train

#include <sstream>

#include "gato/core/error.h"
#include "gato/model/estimate.h"
#include "session.h"

namespace gato::train {
namespace {

constexpr int64_t kPaperTextSize = 32000;  // gato_spec 1.1: stands in while there is no tokenizer file

void add_table(std::ostringstream& out, const std::string& title, const std::vector<model::NamedCount>& parts,
               bool bytes) {
  const auto show = [&](int64_t count) {
    return bytes ? format_bytes(static_cast<double>(count)) : format_count(static_cast<double>(count));
  };
  out << title << ": " << show(model::total(parts)) << (bytes ? "" : cat(" (", model::total(parts), ")")) << "\n";
  for (const model::NamedCount& part : parts) out << "  " << part.name << ": " << show(part.count) << "\n";
}

/// The first data set or tokenizer file that is not there; "" when all are.
std::string missing_input(const TrainingConfig& config) {
  for (const std::string& name : config.data.datasets) {
    if (!std::filesystem::exists(name)) {
      return cat(name, " does not exist; make it with `gato-data collect --suite demo --out ", name, "`");
    }
  }
  const std::string& model = config.tokenizer.model;
  if (model.empty() || std::filesystem::exists(model)) return "";
  return cat(model, " does not exist; make it with `gato-data train-tokenizer --out ", model, " DATASET ...`");
}

}  // namespace

std::string check_report(const TrainingConfig& config) {
  std::ostringstream out;
  std::optional<data::OpenedData> opened;
  const std::string missing = missing_input(config);
  if (missing.empty()) opened = open_data(config);
  const tokenizer::Vocabulary vocabulary =
      opened ? *opened->vocabulary : tokenizer::Vocabulary(kPaperTextSize, config.tokenizer.private_discrete);
  const model::ModelShape shape = model_shape(vocabulary);
  const int64_t micro = config.train.micro_batch_rows > 0 ? config.train.micro_batch_rows : config.train.batch_rows;
  model::StepShape step;
  step.rows = micro;
  step.row_tokens = config.data.row_tokens;
  step.loss_positions = step.rows * step.row_tokens / 4;  // the paper's mixtures; measured below where there is data
  double sequence_tokens = static_cast<double>(config.data.row_tokens);
  if (opened) {
    const data::Batch batch = data::RowBuilder(opened->plan, true).build(0, std::min<int64_t>(micro, data::kBlockRows));
    const auto scale = [&](int64_t count) { return count * micro / batch.rows; };
    int64_t labels = 0, sequences = 0;
    for (size_t i = 0; i < batch.ids.size(); ++i) {
      labels += batch.loss_weights[i] != 0 ? 1 : 0;
      sequences += batch.sources[i] >= 0 &&
                           batch.sequence_starts[i] == static_cast<int32_t>(i % static_cast<size_t>(batch.row_tokens))
                       ? 1
                       : 0;
    }
    step.loss_positions = scale(labels);
    step.patches = scale(static_cast<int64_t>(batch.patch_index.size()));
    sequence_tokens = static_cast<double>(batch.tokens) / static_cast<double>(std::max<int64_t>(1, sequences));
    out << "data: " << opened->training.size() << " sources, rows filled to "
        << format_fixed(100 * static_cast<double>(batch.tokens) / static_cast<double>(batch.ids.size()), 1) << " %\n";
    for (const data::SourceShare& share : opened->plan->shares(0)) {
      out << "  " << share.source << ": " << format_fixed(100 * share.asked_share, 1) << " % of tokens, "
          << format_fixed(100 * share.loss_share, 1) << " % of the loss, all seen once in "
          << format_count(share.epoch_rows) << " rows\n";
    }
  } else {
    out << "data: not opened: " << missing << "\n  (the figures below take " << kPaperTextSize
        << " text pieces and loss on a quarter of the positions)\n";
  }
  add_table(out, "parameters", model::parameters_by_part(config.model, shape), false);
  add_table(out, "state", model::state_bytes(config.model, shape), true);
  add_table(out, cat("activations of ", micro, " rows"), model::activation_bytes(config.model, shape, step), true);
  const double tokens = static_cast<double>(config.train.steps * config.train.batch_rows * config.data.row_tokens);
  const double per_token = model::training_flops(config.model, shape, step, sequence_tokens) /
                           static_cast<double>(micro * config.data.row_tokens);
  out << "tokens of the run: " << format_count(tokens) << " (" << config.train.steps << " steps of "
      << config.train.batch_rows << " rows)\n"
      << "floating-point operations: " << format_count(per_token) << " per token, " << per_token * tokens
      << " for the run\n";
  return out.str();
}

}  // namespace gato::train

// A training loop written by hand on the library's parts. usage: training_loop DATASETS TOKENIZER_MODEL [STEPS]
#include <ATen/ATen.h>

#include <cmath>
#include <iostream>

#include "gato/data/batch.h"
#include "gato/kernels/optimizer.h"
#include "gato/train/batch_tensors.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: training_loop DATASETS TOKENIZER_MODEL [STEPS]\n";
    return 2;
  }
  const int64_t steps = argc > 3 ? std::stoll(argv[3]) : 100;
  constexpr uint64_t kSeed = 7;

  // Data: every task in equal shares of tokens, windows of one step.
  const auto text = gato::tokenizer::TextTokenizer::load(argv[2]);
  const gato::tokenizer::Vocabulary vocabulary(text.size(), false);
  gato::data::DataConfig data;
  data.datasets = {argv[1]};
  data.row_tokens = 256;
  data.schedule = {{0, {{.tasks = "*"}}}};
  const auto sources = gato::data::open_sources(data, vocabulary, &text, gato::data::Split::kTraining);
  const auto plan = std::make_shared<const gato::data::RowPlan>(data, sources, kSeed);
  gato::data::Loader loader(std::make_shared<const gato::data::RowBuilder>(plan, true), /*first_row=*/0,
                            /*batch_rows=*/4, /*rank=*/0,
                            /*world=*/1, /*threads=*/1, /*prefetch=*/4);

  // Model and optimizer state: flat buffers.
  gato::model::ModelConfig config{
      .layers = 2, .width = 64, .heads = 2, .head_dim = 32, .hidden = 256, .patch_channels = 8};
  gato::model::Model model(config, {vocabulary.size(), vocabulary.first_bin(), gato::tokenizer::kNumBins}, kSeed);
  const at::Tensor first_moment = at::zeros_like(model.store().values());
  const at::Tensor second_moment = at::zeros_like(model.store().values());
  std::vector<gato::kernels::UpdateSpan> spans;
  for (const auto& segment : model.store().segments()) spans.push_back({segment.offset, segment.size, segment.decay});

  for (int64_t step = 1; step <= steps; ++step) {
    const gato::data::Batch batch = loader.next();
    const auto tensors = gato::train::batch_tensors(batch, 0, batch.rows);
    model.store().zero_gradients();
    const auto result = model.loss(tensors.input, tensors.loss,
                                   {.training = true, .seed = kSeed, .step = step, .first_row = batch.first_row});
    model.backward(result.loss);
    const double norm = std::sqrt(gato::kernels::squared_norm(model.store().gradients())) / tensors.weight_sum;
    gato::kernels::AdamWStep update;
    update.learning_rate = 1e-3;
    update.weight_decay = 0.05;
    update.step = step;
    update.grad_scale = std::min(1.0, 1.0 / norm) / tensors.weight_sum;  // mean loss, gradient clipped to norm 1
    gato::kernels::adamw_step(model.store().values(), model.store().gradients(), first_moment, second_moment, spans,
                              update);
    if (step % 20 == 0 || step == 1) {
      std::cout << "step " << step << "  loss " << result.loss.item<double>() / tensors.weight_sum << "  gradient norm "
                << norm << "\n";
    }
  }
  gato::checkpoint::write_safetensors("model.safetensors", model.store().export_tensors());
}

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "gato/checkpoint/safetensors.h"
#include "gato/core/json.h"
#include "gato/kernels/optimizer.h"
#include "model/small_model.h"
#include "support/temp_folder.h"

// The model held against tools/oracle/oracle.py, an independent statement of it in PyTorch and fp64, whose fixtures lie
// in tests/model/fixtures/oracle.
namespace gato::model {
namespace {

using namespace testing;

// What fp32 must reach against the oracle's fp64: absolute, relative.
constexpr Tolerance kForward{5e-6, 2e-5};
constexpr double kGradientRelative = 1e-4;  // and as much of the tensor's largest gradient, absolute: sums cancel
constexpr Tolerance kLosses{0, 1e-5};       // over ten steps
constexpr double kFinalShareOfLearningRate = 2e-3;  // of what ten steps can move a parameter, all but one in 500

at::ScalarType torch_type(checkpoint::Dtype dtype) {
  switch (dtype) {
    case checkpoint::Dtype::kU8:
      return at::kByte;
    case checkpoint::Dtype::kI32:
      return at::kInt;
    case checkpoint::Dtype::kI64:
      return at::kLong;
    case checkpoint::Dtype::kF32:
      return at::kFloat;
    case checkpoint::Dtype::kF64:
      return at::kDouble;
    default:
      throw CheckpointError(cat("no fixture holds ", checkpoint::dtype_name(dtype)));
  }
}

/// A fixture of the oracle.
class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : reader_(std::filesystem::path(GATO_SOURCE_DIR) / "tests/model/fixtures/oracle" / (name + ".safetensors")) {}

  [[nodiscard]] at::Tensor tensor(const std::string& name) const {
    const checkpoint::TensorInfo& info = reader_.info(name);
    const at::Tensor out = at::empty(info.shape, torch_type(info.dtype.value()));
    reader_.read(name, {static_cast<std::byte*>(out.mutable_data_ptr()), out.nbytes()});
    return out;
  }

  /// A parameter, gradient or final parameter; of position tables only the rows in use are stored, the others are zero.
  [[nodiscard]] at::Tensor named(const std::string& group, const Segment& segment) const {
    const std::string name = group + "/" + segment.name;
    if (!reader_.has(name + ".rows")) return tensor(name).view(segment.shape);
    return at::zeros(segment.shape).index_copy(0, tensor(name + ".rows"), tensor(name));
  }

  [[nodiscard]] Json json(const std::string& key) const {
    return parse_json(reader_.metadata().at(key), reader_.path().string());
  }
  [[nodiscard]] ModelConfig config() const {
    return read_config<ModelConfig>(parse_yaml(reader_.metadata().at("model"), reader_.path().string()));
  }
  [[nodiscard]] size_t count(const std::string& group) const {
    size_t number = 0;
    for (const std::string& name : reader_.names()) {
      number += name.compare(0, group.size() + 1, group + "/") == 0 && name.find(".rows") == std::string::npos ? 1 : 0;
    }
    return number;
  }

 private:
  checkpoint::SafetensorsReader reader_;
};

class OracleTest : public ::testing::TestWithParam<std::string> {
 protected:
  OracleTest() {
    const Json shape = fixture_.json("case");
    ModelConfig config = fixture_.config();
    config.stochastic_depth = 0;
    model_ =
        std::make_unique<Model>(config,
                                ModelShape{shape.at("vocabulary_size").get<int64_t>(),
                                           shape.at("first_bin").get<int64_t>(), shape.at("num_bins").get<int64_t>()},
                                1);
    sigma_ = shape.at("soft_sigma").get<double>();
    for (const Segment& segment : segments()) {
      model_->store().parameter(segment.name).value.copy_(fixture_.named("parameters", segment));
    }
    const auto in = [&](const char* name) { return fixture_.tensor(cat("input/", name)); };
    input_ = {in("ids"),     in("sequence_starts"), in("local_positions"), in("patch_index"),
              in("patches"), in("patch_rows"),      in("patch_columns")};
    where_ = {fixture_.tensor("loss/positions"), fixture_.tensor("loss/targets"), fixture_.tensor("loss/weights")};
  }

  [[nodiscard]] const std::vector<Segment>& segments() const { return model_->store().segments(); }

  Fixture fixture_{GetParam()};
  std::unique_ptr<Model> model_;
  ModelInput input_;
  LossInput where_;
  double sigma_ = 0;
};

TEST_P(OracleTest, ParametersHaveTheSameNames) {
  EXPECT_EQ(fixture_.count("parameters"), segments().size());
  EXPECT_EQ(fixture_.count("gradients"), segments().size());
}

TEST_P(OracleTest, HiddenStatesLossAndEveryGradientAgree) {
  EXPECT_TRUE(all_close(model_->forward(input_), fixture_.tensor("hidden"), kForward));
  const LossResult result = model_->loss(input_, where_, {}, sigma_);
  EXPECT_TRUE(all_close(result.loss, fixture_.tensor("losses")[0], kForward));
  model_->backward(result.loss);
  double largest = 0;
  for (const Segment& segment : segments()) {
    largest = std::max(largest, fixture_.named("gradients", segment).abs().max().item<double>());
  }
  for (const Segment& segment : segments()) {
    const at::Tensor expected = fixture_.named("gradients", segment);
    // Keys' biases and biases before a normalisation have no gradient but rounding, hence the model's largest one.
    const double scale = expected.abs().max().item<double>() + 1e-3 * largest;
    EXPECT_TRUE(all_close(model_->store().parameter(segment.name).gradient, expected,
                          {kGradientRelative * scale, kGradientRelative}))
        << segment.name;
  }
}

TEST_P(OracleTest, TenStepsOfAdamWAgree) {
  const Json o = fixture_.json("optimizer");
  const auto number = [&](const char* key) { return o.at(key).get<double>(); };
  const at::Tensor losses = fixture_.tensor("losses"), rates = fixture_.tensor("rates"),
                   norms = fixture_.tensor("norms");
  const at::Tensor m = at::zeros_like(model_->store().values()), v = at::zeros_like(model_->store().values());
  std::vector<kernels::UpdateSpan> spans;
  for (const Segment& s : segments()) spans.push_back({s.offset, s.size, s.decay});
  const double weight = where_.weights.to(at::kDouble).sum().item<double>();
  at::Tensor first_gradient;
  double moved = 0;
  for (int64_t step = 1; step <= losses.numel(); ++step) {
    model_->store().zero_gradients();
    const LossResult result = model_->loss(input_, where_, {}, sigma_);
    EXPECT_TRUE(all_close(result.loss, losses[step - 1], kLosses)) << "step " << step;
    model_->backward(result.loss);
    if (step == 1) first_gradient = model_->store().gradients().abs() / weight;
    const double norm = std::sqrt(kernels::squared_norm(model_->store().gradients())) / weight;
    EXPECT_NEAR(norm / norms[step - 1].item<double>(), 1, 1e-4) << "step " << step;
    kernels::AdamWStep update{rates[step - 1].item<double>(),
                              number("beta_1"),
                              number("beta_2"),
                              number("epsilon"),
                              number("weight_decay"),
                              step};
    update.grad_scale = std::min(1.0, number("clip_norm") / norm) / weight;
    moved += update.learning_rate;
    kernels::adamw_step(model_->store().values(), model_->store().gradients(), m, v, spans, update);
  }
  // Where a gradient is nothing but rounding, in the first step or a later one, AdamW moves by its sign.
  int64_t compared = 0, strayed = 0;
  for (const Segment& segment : segments()) {
    const at::Tensor actual = model_->store().parameter(segment.name).value,
                     expected = fixture_.named("final", segment);
    const at::Tensor gradient =
        first_gradient.slice(0, segment.offset, segment.offset + segment.size).view(segment.shape);
    const at::Tensor meaningful = gradient.gt(1e-6).logical_or(gradient.eq(0));
    const at::Tensor difference = (actual - expected).abs().masked_select(meaningful);
    compared += difference.numel();
    strayed += difference.gt(kFinalShareOfLearningRate * moved).sum().item<int64_t>();
    EXPECT_TRUE(all_close(difference, at::zeros_like(difference), {0.1 * moved, 0})) << segment.name;
  }
  EXPECT_LE(strayed, compared / 500);
  EXPECT_GT(compared, model_->store().num_parameters() * 19 / 20);
}

INSTANTIATE_TEST_SUITE_P(Cases, OracleTest,
                         ::testing::Values("rotary_tied", "rotary_untied", "relative_tied", "relative_untied",
                                           "none_tied", "none_untied"),
                         [](const auto& test) { return test.param; });

/// The Python that tools/setup --oracle makes; "" where there is none.
std::string oracle_python() {
  if (const char* named = std::getenv("GATO_ORACLE_PYTHON")) return named;
  const auto usual = std::filesystem::path(GATO_SOURCE_DIR) / ".deps/oracle/bin/python";
  return std::filesystem::exists(usual) ? usual.string() : "";
}

TEST_P(OracleTest, LoadsWhatWeExport) {
  const std::string python = oracle_python();
  if (python.empty()) GTEST_SKIP() << "tools/setup --oracle was not run";
  const gato::test::TempFolder folder("oracle");
  checkpoint::write_safetensors(folder / "model.safetensors", model_->store().export_tensors());
  write_file_atomic(folder / "config.yaml", "model: " + fixture_.json("model").dump() + "\n");
  const std::string root = GATO_SOURCE_DIR;
  const std::string command = cat(python, " ", root, "/tools/oracle/oracle.py --load ", folder.path().string(),
                                  " --inputs ", root, "/tests/model/fixtures/oracle/", GetParam(), ".safetensors");
  std::FILE* pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output(4096, '\0');
  output.resize(std::fread(output.data(), 1, output.size(), pipe));
  ASSERT_EQ(::pclose(pipe), 0) << command;
  const Json said = parse_json(output, "oracle.py");
  EXPECT_EQ(said.at("parameters").get<int64_t>(), model_->store().num_parameters());
  const double loss = model_->loss(input_, where_).loss.item<double>();
  EXPECT_NEAR(said.at("summed_loss").get<double>() / loss, 1, 2e-5);
}

TEST(OracleFixturesTest, EveryFixtureIsTested) {
  int64_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(GATO_SOURCE_DIR) / "tests/model/fixtures/oracle")) {
    files += entry.path().extension() == ".safetensors" ? 1 : 0;
  }
  EXPECT_EQ(files, 6);
}

}  // namespace
}  // namespace gato::model

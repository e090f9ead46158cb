#include "gato/kernels/relative_attention.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "kernels/checks.h"
#include "kernels/graph.h"

// A block of queries [first, last) of a sequence sees keys [0, last). Its products with the distances come out with one
// column per distance; the score of query i and key j is found there in column (last - 1) - (i - j). That is a view of
// the same memory whose rows are one element shorter: nothing is moved ("relative shift" of the paper's appendix B).
// Letters: Q queries of the block, K = last keys, else as in parameter.h.
namespace gato::kernels {
namespace {

constexpr int64_t kMostScores = int64_t{1} << 21;  // of a block and all heads; four such buffers at most are alive
constexpr int64_t kMostQueries = 128;              // a block of more would compute too much above the diagonal

struct Block {
  int64_t first, last;  // queries of the sequence; keys are [0, last)
  [[nodiscard]] int64_t queries() const { return last - first; }
};

std::vector<Block> cut_queries(int64_t first, int64_t last, int64_t heads) {
  const int64_t size = std::clamp<int64_t>(kMostScores / (heads * last), 1, kMostQueries);
  std::vector<Block> blocks;
  for (; first < last; first += size) blocks.push_back({first, std::min(last, first + size)});
  return blocks;
}

/// What a block needs, heads in front.
struct BlockInput {
  Block block;
  at::Tensor query;              // [H, Q, D]
  at::Tensor key_t;              // [H, D, K]
  at::Tensor distances;          // [H, K, D], reversed as in make_distance_table
  at::Tensor content, position;  // [H, 1, D]
};

struct BlockScores {
  at::Tensor content_query, position_query;  // [H, Q, D], biased and scaled
  at::Tensor weights;                        // [H, Q, K], each row sums to 1
};

BlockScores score(const BlockInput& in) {
  const int64_t heads = in.query.size(0), queries = in.block.queries(), keys = in.block.last;
  const double scale = 1 / std::sqrt(static_cast<double>(in.query.size(2)));
  BlockScores result;
  result.content_query = (in.query + in.content).mul_(scale);
  result.position_query = (in.query + in.position).mul_(scale);
  at::Tensor scores = at::bmm(result.content_query, in.key_t);
  const at::Tensor by_distance = at::bmm(result.position_query, in.distances.transpose(1, 2));
  scores.add_(by_distance.as_strided({heads, queries, keys}, {queries * keys, keys - 1, 1}, queries - 1));
  scores.masked_fill_(at::ones({queries, keys}, scores.options().dtype(at::kBool)).triu_(in.block.first + 1),
                      -INFINITY);
  result.weights = at::softmax(scores, -1);
  return result;
}

/// Gradients of a block's inputs.
struct BlockGradients {
  at::Tensor content_query, position_query;  // [H, Q, D], of the unscaled query plus its bias
  at::Tensor key, value, distances;          // [H, K, D]
};

BlockGradients block_backward(const BlockInput& in, const at::Tensor& value, const at::Tensor& out_gradient) {
  const int64_t heads = in.query.size(0), queries = in.block.queries(), keys = in.block.last;
  const double scale = 1 / std::sqrt(static_cast<double>(in.query.size(2)));
  const BlockScores forward = score(in);
  BlockGradients result;
  result.value = at::bmm(forward.weights.transpose(1, 2), out_gradient);
  const at::Tensor weight_gradient = at::bmm(out_gradient, value.transpose(1, 2));
  // The view of score() backwards: the same memory read with rows of one element more. What it shows beside the scores
  // are masked ones, whose gradient is zero, and the zeros in front.
  const int64_t size = queries * (keys + 1);
  const at::Tensor memory = at::empty({heads, size}, in.query.options());
  memory.slice(1, 0, queries - 1).zero_();
  const at::Tensor by_key = memory.as_strided({heads, queries, keys}, {size, keys, 1}, queries - 1);
  const at::Tensor by_distance = memory.as_strided({heads, queries, keys}, {size, keys + 1, 1}, 0);
  by_key.copy_(at::_softmax_backward_data(weight_gradient, forward.weights, -1, at::kFloat));
  result.content_query = at::bmm(by_key, in.key_t.transpose(1, 2)).mul_(scale);
  result.position_query = at::bmm(by_distance, in.distances).mul_(scale);
  result.key = at::bmm(by_key.transpose(1, 2), forward.content_query);
  result.distances = at::bmm(by_distance.transpose(1, 2), forward.position_query);
  return result;
}

/// Tokens [begin, end) of one row of [B, T, 3, H, D], of queries (0), keys (1) or values (2): [H, tokens, D].
at::Tensor part(const at::Tensor& qkv, int64_t row, int64_t begin, int64_t end, int64_t which) {
  return qkv.select(0, row).slice(0, begin, end).select(1, which).transpose(0, 1);
}
/// The same of [B, T, H, D].
at::Tensor part(const at::Tensor& x, int64_t row, int64_t begin, int64_t end) {
  return x.select(0, row).slice(0, begin, end).transpose(0, 1);
}
/// Rows of the distances below `count`: [H, count, D].
at::Tensor nearest(const at::Tensor& distance_keys, int64_t count) {
  return distance_keys.slice(0, distance_keys.size(0) - count).transpose(0, 1);
}

/// A run of tokens of a row: one sequence, or neighbouring sequences of one token each (padding), which attend to
/// themselves and nothing else.
struct Run {
  int64_t row, begin, end;
  bool alone;
};

/// Checks that every row of `sequence_start`, on the CPU, is cut into consecutive sequences of at most `longest`
/// tokens.
std::vector<Run> find_runs(const at::Tensor& sequence_start, int64_t longest) {
  const int64_t tokens = sequence_start.size(1);
  std::vector<Run> runs;
  for (int64_t row = 0; row < sequence_start.size(0); ++row) {
    const int32_t* starts = sequence_start.const_data_ptr<int32_t>() + row * tokens;
    for (int64_t begin = 0; begin < tokens;) {
      GATO_CHECK(starts[begin] == begin, "sequence_start[", row, ", ", begin, "] is ", starts[begin], ": expected ",
                 begin, " (a new sequence starts)");
      int64_t end = begin + 1;
      while (end < tokens && starts[end] == begin) ++end;
      GATO_CHECK(end - begin <= longest, "a sequence of ", end - begin, " tokens needs as many distances, there are ",
                 longest);
      const bool alone = end - begin == 1;
      if (alone && !runs.empty() && runs.back().alone && runs.back().row == row) {
        runs.back().end = end;
      } else {
        runs.push_back({row, begin, end, alone});
      }
      begin = end;
    }
  }
  return runs;
}

BlockInput gather(const at::Tensor& qkv, const Run& run, const Block& block, const at::Tensor& distance_keys,
                  const RelativeBiases& biases) {
  return {block,
          part(qkv, run.row, run.begin + block.first, run.begin + block.last, 0),
          part(qkv, run.row, run.begin, run.begin + block.last, 1).transpose(1, 2),
          nearest(distance_keys, block.last),
          biases.content.value.unsqueeze(1),
          biases.position.value.unsqueeze(1)};
}

struct RelativeAttentionFunction : torch::autograd::Function<RelativeAttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const at::Tensor& distance_keys,
                            const std::optional<at::Tensor>& /*anchor*/, const at::Tensor& starts,
                            const RelativeBiases& biases) {
    const at::Tensor out = at::empty({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}, qkv.options());
    for (const Run& run : find_runs(starts, distance_keys.size(0))) {
      if (run.alone) {
        part(out, run.row, run.begin, run.end).copy_(part(qkv, run.row, run.begin, run.end, 2));
        continue;
      }
      for (const Block& block : cut_queries(0, run.end - run.begin, qkv.size(3))) {
        const at::Tensor value = part(qkv, run.row, run.begin, run.begin + block.last, 2);
        part(out, run.row, run.begin + block.first, run.begin + block.last)
            .copy_(at::bmm(score(gather(qkv, run, block, distance_keys, biases)).weights, value));
      }
    }
    context->save_for_backward({qkv, distance_keys, starts});
    save_parameter(context, "content", biases.content);
    save_parameter(context, "position", biases.position);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &qkv = saved[0], &distance_keys = saved[1];
    const RelativeBiases biases{saved_parameter(context, "content"), saved_parameter(context, "position")};
    const at::Tensor out_gradient = gradients[0].contiguous();
    const at::Tensor qkv_gradient = at::zeros_like(qkv), distance_gradient = at::zeros_like(distance_keys);
    for (const Run& run : find_runs(saved[2], distance_keys.size(0))) {
      if (run.alone) {
        part(qkv_gradient, run.row, run.begin, run.end, 2).copy_(part(out_gradient, run.row, run.begin, run.end));
        continue;
      }
      for (const Block& block : cut_queries(0, run.end - run.begin, qkv.size(3))) {
        const int64_t first = run.begin + block.first, last = run.begin + block.last;
        const BlockGradients d =
            block_backward(gather(qkv, run, block, distance_keys, biases), part(qkv, run.row, run.begin, last, 2),
                           part(out_gradient, run.row, first, last));
        part(qkv_gradient, run.row, first, last, 0).copy_(d.content_query + d.position_query);
        part(qkv_gradient, run.row, run.begin, last, 1).add_(d.key);
        part(qkv_gradient, run.row, run.begin, last, 2).add_(d.value);
        nearest(distance_gradient, block.last).add_(d.distances);
        if (biases.content.gradient.defined()) biases.content.gradient.add_(d.content_query.sum(1));
        if (biases.position.gradient.defined()) biases.position.gradient.add_(d.position_query.sum(1));
      }
    }
    return {qkv_gradient, distance_gradient, {}, {}, {}};
  }
};

void check_biases(const RelativeBiases& biases, const at::Tensor& distance_keys, int64_t heads, int64_t head_dim) {
  check_tensor(distance_keys, "distance_keys", at::kFloat, {-1, heads, head_dim});
  check_parameter(biases.content, "content bias", {heads, head_dim});
  check_parameter(biases.position, "position bias", {heads, head_dim});
}

}  // namespace

int64_t relative_scores_at_once(int64_t sequence_tokens, int64_t heads) {
  int64_t largest = 0;
  for (const Block& block : cut_queries(0, sequence_tokens, heads)) {
    largest = std::max(largest, heads * block.queries() * block.last);
  }
  return largest;
}

at::Tensor make_distance_table(int64_t distances, int64_t width) {
  GATO_CHECK(distances >= 0 && width > 0, "a table of ", distances, " distances and width ", width, " makes no sense");
  const at::Tensor table = at::empty({distances, width}, at::kFloat);
  auto* row = table.mutable_data_ptr<float>();
  const int64_t sines = (width + 1) / 2;
  for (int64_t i = 0; i < distances; ++i, row += width) {
    const auto distance = static_cast<double>(distances - 1 - i);
    for (int64_t k = 0; k < sines; ++k) {
      const double angle = distance * std::pow(10000.0, -2 * static_cast<double>(k) / static_cast<double>(width));
      row[k] = static_cast<float>(std::sin(angle));
      if (sines + k < width) row[sines + k] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

at::Tensor relative_attention(const at::Tensor& qkv, const at::Tensor& sequence_start, const at::Tensor& distance_keys,
                              const RelativeBiases& biases) {
  check_tensor(qkv, "qkv", at::kFloat, {-1, -1, 3, -1, -1});
  check_tensor(sequence_start, "sequence_start", at::kInt, {qkv.size(0), qkv.size(1)});
  check_biases(biases, distance_keys, qkv.size(3), qkv.size(4));
  if (!sequence_start.is_cpu()) check_same_device(qkv, {{"sequence_start", &sequence_start}});
  check_same_device(qkv, {{"distance_keys", &distance_keys},
                          {"content bias", &biases.content.value},
                          {"position bias", &biases.position.value}});
  return RelativeAttentionFunction::apply(qkv, distance_keys, graph_anchor({&biases.content, &biases.position}),
                                          sequence_start.cpu(), biases);
}

}  // namespace gato::kernels

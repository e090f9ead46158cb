#include "gato/kernels/embedding.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "gato/core/error.h"
#include "kernels/checks.h"
#include "kernels/cpu/rows.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

/// Places of a batch grouped by the row of a table they use, places ascending within a group.
class PlacesByRow {
 public:
  /// `rows[i]` belongs to place `places[i]`, or to place i when `places` is null; rows of -1 belong to none.
  PlacesByRow(const int32_t* rows, const int64_t* places, int64_t count, int64_t table_rows)
      : begin_(static_cast<size_t>(table_rows) + 1, 0) {
    for (int64_t i = 0; i < count; ++i) {
      if (rows[i] >= 0) ++begin_[static_cast<size_t>(rows[i]) + 1];
    }
    for (size_t row = 1; row < begin_.size(); ++row) {
      if (begin_[row] > 0) used_.push_back(static_cast<int64_t>(row) - 1);
      begin_[row] += begin_[row - 1];
    }
    places_.resize(static_cast<size_t>(begin_.back()));
    std::vector<int64_t> next(begin_.begin(), begin_.end() - 1);
    for (int64_t i = 0; i < count; ++i) {
      if (rows[i] < 0) continue;
      places_[static_cast<size_t>(next[static_cast<size_t>(rows[i])]++)] = places == nullptr ? i : places[i];
    }
  }

  /// table_gradient[row, :] += the gradients of the row's places, one thread per row, in ascending order.
  void scatter(const float* gradient, int64_t width, float* table_gradient) const {
    for_ranges(static_cast<int64_t>(used_.size()), 2 * width, [&](int64_t first, int64_t last) {
      for (int64_t u = first; u < last; ++u) {
        const auto row = static_cast<size_t>(used_[static_cast<size_t>(u)]);
        float* target = table_gradient + static_cast<int64_t>(row) * width;
        for (int64_t p = begin_[row]; p < begin_[row + 1]; ++p) {
          cpu::add(gradient + places_[static_cast<size_t>(p)] * width, target, width);
        }
      }
    });
  }

 private:
  std::vector<int64_t> begin_, places_, used_;
};

void scatter_into(const Parameter& table, const at::Tensor& rows, const at::Tensor& places,
                  const at::Tensor& gradient) {
  if (!table.gradient.defined() || rows.numel() == 0) return;
  if (const DeviceOps* ops = device_ops(gradient)) return ops->scatter_rows(rows, places, gradient, table.gradient);
  const PlacesByRow index(rows.const_data_ptr<int32_t>(), places.defined() ? places.const_data_ptr<int64_t>() : nullptr,
                          rows.numel(), table.value.size(0));
  index.scatter(gradient.const_data_ptr<float>(), gradient.size(1), table.gradient.mutable_data_ptr<float>());
}

/// For every place the patch that stands there, or -1.
std::vector<int64_t> patch_of_place(const at::Tensor& patch_index, int64_t places) {
  std::vector<int64_t> patch(static_cast<size_t>(places), -1);
  const int64_t count = patch_index.defined() ? patch_index.numel() : 0;
  for (int64_t i = 0; i < count; ++i) patch[static_cast<size_t>(patch_index.const_data_ptr<int64_t>()[i])] = i;
  return patch;
}

struct EmbedFunction : torch::autograd::Function<EmbedFunction> {
  static at::Tensor forward(AutogradContext* context, const std::optional<at::Tensor>& patch_vectors,
                            const std::optional<at::Tensor>& /*anchor*/, const EmbeddingInput& input,
                            const EmbeddingTables& tables) {
    const int64_t places = input.ids.numel();
    const int64_t width = tables.tokens.value.size(1);
    const at::Tensor out = at::empty({places, width}, tables.tokens.value.options());
    context->save_for_backward(
        {input.ids, input.local_positions, input.patch_index, input.patch_rows, input.patch_columns});
    save_parameter(context, "tokens", tables.tokens);
    save_parameter(context, "locals", tables.local_positions);
    save_parameter(context, "rows", tables.patch_rows);
    save_parameter(context, "columns", tables.patch_columns);
    if (const DeviceOps* ops = device_ops(out)) {
      ops->embed_forward(input, tables, patch_vectors.value_or(at::Tensor()), out);
      return out;
    }
    const std::vector<int64_t> patch = patch_of_place(input.patch_index, places);
    const auto data = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<float>() : nullptr; };
    const auto index = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<int32_t>() : nullptr; };
    const float* tokens = data(tables.tokens.value);
    const float* locals = data(tables.local_positions.value);
    const float* rows = data(tables.patch_rows.value);
    const float* columns = data(tables.patch_columns.value);
    const float* vectors = patch_vectors ? data(*patch_vectors) : nullptr;
    const int32_t* ids = index(input.ids);
    const int32_t* local_positions = index(input.local_positions);
    const int32_t* patch_rows = index(input.patch_rows);
    const int32_t* patch_columns = index(input.patch_columns);
    auto* to = out.mutable_data_ptr<float>();
    const auto bytes = static_cast<size_t>(width) * sizeof(float);
    for_ranges(places, 4 * width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* y = to + i * width;
        if (ids[i] >= 0) {
          std::memcpy(y, tokens + ids[i] * width, bytes);
        } else {
          std::memset(y, 0, bytes);
        }
        if (local_positions[i] >= 0) cpu::add(locals + local_positions[i] * width, y, width);
        const int64_t p = patch[static_cast<size_t>(i)];
        if (p < 0) continue;
        cpu::add(vectors + p * width, y, width);
        if (patch_rows[p] >= 0) cpu::add(rows + patch_rows[p] * width, y, width);
        if (patch_columns[p] >= 0) cpu::add(columns + patch_columns[p] * width, y, width);
      }
    });
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor& patch_index = saved[2];
    scatter_into(saved_parameter(context, "tokens"), saved[0], {}, dy);
    scatter_into(saved_parameter(context, "locals"), saved[1], {}, dy);
    at::Tensor vectors_gradient;
    if (patch_index.defined() && patch_index.numel() > 0) {
      scatter_into(saved_parameter(context, "rows"), saved[3], patch_index, dy);
      scatter_into(saved_parameter(context, "columns"), saved[4], patch_index, dy);
      vectors_gradient = at::index_select(dy, 0, patch_index);
    }
    return {vectors_gradient, {}, {}, {}};
  }
};

/// Values on a device are not looked at: its operations pass over those outside.
void check_indices(const at::Tensor& indices, const char* name, int64_t table_rows) {
  if (!indices.is_cpu()) return;
  const auto* data = indices.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < indices.numel(); ++i) {
    GATO_CHECK(data[i] >= -1 && data[i] < table_rows, name, "[", i, "] is ", data[i], ", the table has ", table_rows,
               " rows");
  }
}

void check_places(const at::Tensor& patch_index, int64_t places) {
  if (!patch_index.is_cpu()) return;
  const auto* data = patch_index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < patch_index.numel(); ++i) {
    GATO_CHECK(data[i] >= 0 && data[i] < places && (i == 0 || data[i] > data[i - 1]), "patch_index[", i, "] is ",
               data[i], ": expected ascending places below ", places);
  }
}

void check_input(const EmbeddingInput& input, const EmbeddingTables& tables, const at::Tensor& patch_vectors) {
  check_parameter(tables.tokens, "token table", {-1, -1});
  const int64_t width = tables.tokens.value.size(1);
  check_parameter(tables.local_positions, "local position table", {-1, width});
  check_tensor(input.ids, "ids", at::kInt, {-1});
  check_tensor(input.local_positions, "local_positions", at::kInt, {input.ids.size(0)});
  check_same_device(tables.tokens.value, {{"local position table", &tables.local_positions.value},
                                          {"patch row table", &tables.patch_rows.value},
                                          {"patch column table", &tables.patch_columns.value},
                                          {"ids", &input.ids},
                                          {"local_positions", &input.local_positions},
                                          {"patch_index", &input.patch_index},
                                          {"patch_rows", &input.patch_rows},
                                          {"patch_columns", &input.patch_columns},
                                          {"patch_vectors", &patch_vectors}});
  check_indices(input.ids, "ids", tables.tokens.value.size(0));
  check_indices(input.local_positions, "local_positions", tables.local_positions.value.size(0));
  const int64_t patches = input.patch_index.defined() ? input.patch_index.numel() : 0;
  if (patches == 0) return;
  check_parameter(tables.patch_rows, "patch row table", {-1, width});
  check_parameter(tables.patch_columns, "patch column table", {-1, width});
  check_tensor(input.patch_index, "patch_index", at::kLong, {patches});
  check_tensor(input.patch_rows, "patch_rows", at::kInt, {patches});
  check_tensor(input.patch_columns, "patch_columns", at::kInt, {patches});
  check_tensor(patch_vectors, "patch_vectors", at::kFloat, {patches, width});
  check_places(input.patch_index, input.ids.size(0));
  check_indices(input.patch_rows, "patch_rows", tables.patch_rows.value.size(0));
  check_indices(input.patch_columns, "patch_columns", tables.patch_columns.value.size(0));
}

}  // namespace

at::Tensor embed(const EmbeddingInput& input, const EmbeddingTables& tables, const at::Tensor& patch_vectors) {
  check_input(input, tables, patch_vectors);
  const std::optional<at::Tensor> anchor =
      graph_anchor({&tables.tokens, &tables.local_positions, &tables.patch_rows, &tables.patch_columns});
  return EmbedFunction::apply(optional_tensor(patch_vectors), anchor, input, tables);
}

}  // namespace gato::kernels

#include "kernels/cuda/embedding.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  int64_t places = 0, width = 0;
  bool patches = true;
  size_t offset = 0;  ///< Elements by which tables and results are misaligned.
};

std::string name_of(const Case& c) {
  return cat(c.places, "x", c.width, c.patches ? "_patches" : "", c.offset > 0 ? "_misaligned" : "");
}

constexpr int64_t kTokens = 1300, kLocals = 40, kIntervals = 20;

/// A batch: patches in runs, tokens of few kinds (so that rows are shared), some places without local position.
struct Problem {
  explicit Problem(const Case& c) {
    Rng rng(5);
    for (int64_t place = 0; place < c.places; ++place) {
      if (c.patches && rng.below(3) == 0) {
        ids.push_back(-1);
        patch_index.push_back(place);
        patch_rows.push_back(static_cast<int32_t>(rng.below(kIntervals)));
        patch_columns.push_back(rng.below(10) == 0 ? -1 : static_cast<int32_t>(rng.below(kIntervals)));
      } else {
        ids.push_back(static_cast<int32_t>(rng.below(2) == 0 ? kTokens - 1 : rng.below(kTokens)));
      }
      locals.push_back(rng.below(4) == 0 ? -1 : static_cast<int32_t>(rng.below(kLocals)));
    }
    tokens_table = normal_values(kTokens * c.width, 1);
    locals_table = normal_values(kLocals * c.width, 2);
    rows_table = normal_values(kIntervals * c.width, 3);
    columns_table = normal_values(kIntervals * c.width, 4);
    vectors = normal_values(static_cast<int64_t>(patch_index.size()) * c.width, 5);
  }
  std::vector<int32_t> ids, locals, patch_rows, patch_columns;
  std::vector<int64_t> patch_index;
  std::vector<float> tokens_table, locals_table, rows_table, columns_table, vectors;
};

/// In float and in the order of the CPU's operation: equal to the last bit.
std::vector<float> reference(const Case& c, const Problem& p) {
  const auto width = static_cast<size_t>(c.width);
  std::vector<float> y(static_cast<size_t>(c.places) * width, 0.0f);
  const auto add = [&](size_t place, const std::vector<float>& table, int64_t row) {
    if (row < 0) return;
    for (size_t i = 0; i < width; ++i) y[place * width + i] += table[static_cast<size_t>(row) * width + i];
  };
  for (size_t place = 0; place < p.ids.size(); ++place) {
    add(place, p.tokens_table, p.ids[place]);
    add(place, p.locals_table, p.locals[place]);
  }
  for (size_t i = 0; i < p.patch_index.size(); ++i) {
    const auto place = static_cast<size_t>(p.patch_index[i]);
    add(place, p.vectors, static_cast<int64_t>(i));
    add(place, p.rows_table, p.patch_rows[i]);
    add(place, p.columns_table, p.patch_columns[i]);
  }
  return y;
}

std::vector<float> run(TestDevice& device, const Case& c, const Problem& p) {
  const auto table = [&](const char* name, const std::vector<float>& values) {
    return Typed(device, Element::kFloat32, name, values, c.offset);
  };
  const Typed tokens = table("tokens", p.tokens_table);
  const Typed locals = table("locals", p.locals_table);
  const Typed rows = table("rows", p.rows_table);
  const Typed columns = table("columns", p.columns_table);
  const Typed vectors = table("vectors", p.vectors);
  const auto ids = device.input("ids", p.ids);
  const auto local_index = device.input("local_index", p.locals);
  const auto patch_index = device.input("patch_index", p.patch_index);
  const auto patch_rows = device.input("patch_rows", p.patch_rows);
  const auto patch_columns = device.input("patch_columns", p.patch_columns);
  const Typed y(device, Element::kFloat32, "y", static_cast<size_t>(c.places * c.width), c.offset);
  EmbeddingForward call{.places = c.places,
                        .width = c.width,
                        .tokens = {tokens.floats(), kTokens, ids.data()},
                        .local_positions = {locals.floats(), kLocals, local_index.data()},
                        .patches = static_cast<int64_t>(p.patch_index.size()),
                        .y = y.floats()};
  if (!p.patch_index.empty()) {
    call.patch_index = patch_index.data();
    call.patch_vectors = vectors.floats();
    call.patch_rows = {rows.floats(), kIntervals, patch_rows.data()};
    call.patch_columns = {columns.floats(), kIntervals, patch_columns.data()};
  }
  embedding_forward(call, nullptr);
  return y.download();
}

class Embedding : public testing::TestWithParam<Case> {};

TEST_P(Embedding, IsExactlyTheSumOfItsRows) {
  const Case& c = GetParam();
  const Problem problem(c);
  TestDevice device;
  EXPECT_EQ(run(device, c, problem), reference(c, problem));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Embedding,
                         testing::Values(Case{0, 8}, Case{1, 8}, Case{31, 1}, Case{33, 33}, Case{541, 16},
                                         Case{20, 541}, Case{20, 768, false}, Case{20, 768}, Case{20, 64, true, 1}),
                         [](const auto& test) { return name_of(test.param); });

TEST(EmbeddingOutside, IndexOutsideItsTableMakesThePlaceNan) {
  const Case c{40, 8};
  Problem problem(c);
  const std::vector<float> good = reference(c, problem);
  const auto patch = static_cast<size_t>(problem.patch_index[2]);
  problem.ids[0] = static_cast<int32_t>(kTokens);
  problem.locals[3] = -2;
  problem.patch_rows[2] = static_cast<int32_t>(kIntervals);
  TestDevice device;
  const std::vector<float> y = run(device, c, problem);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t place = i / 8;
    if (place == 0 || place == 3 || place == patch) {
      EXPECT_TRUE(std::isnan(y[i]));
    } else {
      EXPECT_EQ(y[i], good[i]);
    }
  }
}

TEST(EmbeddingCounters, ReadsRowsAndWritesTheirSum) {
  const Case c{64, 1024, false};
  const Problem problem(c);
  TestDevice device;
  run(device, c, problem);
  const auto counters = device.counters("embedding_forward");
  EXPECT_LE(counters.sector_factor(), 1.01);
  EXPECT_EQ(counters.global_bytes_written, 64u * 1024 * 4);
}

// ------------------------------------------------------------------------------------------------ backward

struct Scatter {
  std::vector<int32_t> index;
  std::vector<int64_t> places;  ///< Empty: place i for entry i.
  std::vector<float> gradient, before;
  int64_t width = 0, table_rows = 0;
};

std::vector<float> run_scatter(TestDevice& device, const Scatter& s, size_t offset = 0) {
  const auto index = device.input("index", s.index);
  const auto places = device.input("places", s.places);
  const Typed gradient(device, Element::kFloat32, "gradient", s.gradient, offset);
  const Typed table(device, Element::kFloat32, "table", s.before, offset);
  const auto count = static_cast<int64_t>(s.index.size());
  const auto workspace = device.buffer<std::byte>("workspace", embedding_backward_workspace(count, s.width));
  embedding_backward({.count = count,
                      .width = s.width,
                      .index = index.data(),
                      .places = s.places.empty() ? nullptr : places.data(),
                      .gradient_rows = static_cast<int64_t>(s.gradient.size()) / s.width,
                      .gradient = gradient.floats(),
                      .table_rows = s.table_rows,
                      .table_gradient = table.floats(),
                      .workspace = workspace.data()},
                     nullptr);
  return table.download();
}

void expect_scattered(const Scatter& s, size_t offset = 0) {
  const auto width = static_cast<size_t>(s.width);
  std::vector<double> expected = widened(s.before);
  for (size_t i = 0; i < s.index.size(); ++i) {
    if (s.index[i] < 0 || s.index[i] >= s.table_rows) continue;
    const size_t place = s.places.empty() ? i : static_cast<size_t>(s.places[i]);
    for (size_t c = 0; c < width; ++c) {
      expected[static_cast<size_t>(s.index[i]) * width + c] += static_cast<double>(s.gradient[place * width + c]);
    }
  }
  TestDevice device;
  const double terms = std::sqrt(static_cast<double>(s.index.size()) + 1);
  EXPECT_TRUE(all_close(run_scatter(device, s, offset), expected, tolerance_of(Element::kFloat32).times(terms)));
}

Scatter make_scatter(int64_t count, int64_t width, int64_t table_rows, uint64_t seed) {
  Scatter s;
  s.width = width;
  s.table_rows = table_rows;
  Rng rng(seed);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t kind = rng.below(4);
    s.index.push_back(static_cast<int32_t>(kind == 0   ? -1
                                           : kind == 1 ? table_rows / 2  // a row of many entries
                                                       : rng.below(table_rows)));
  }
  s.gradient = normal_values(count * width, seed + 1);
  s.before = normal_values(table_rows * width, seed + 2);
  return s;
}

TEST(EmbeddingBackwardTest, AddsEveryEntryToItsRow) {
  for (const int64_t count : {0, 1, 31, 32, 33, 64, 541, 2500}) {
    for (const int64_t table_rows : {1, 3, 513}) {
      SCOPED_TRACE(cat(count, " entries, ", table_rows, " rows"));
      expect_scattered(make_scatter(count, 8, table_rows, 11));
    }
  }
  for (const int64_t width : {1, 31, 33, 541, 768}) expect_scattered(make_scatter(70, width, 9, 12));
  expect_scattered(make_scatter(100, 64, 9, 13), 1);  // misaligned
}

TEST(EmbeddingBackwardTest, RunsOverManyPiecesAndExactlyToTheirEnds) {
  // Runs whose lengths walk around the length of a piece (32), in sorted order.
  Scatter s;
  s.width = 4;
  s.table_rows = 12;
  int32_t row = 0;
  for (const int length : {32, 32, 1, 31, 33, 31, 64, 65, 160, 1, 30, 2}) {
    s.index.insert(s.index.end(), static_cast<size_t>(length), row++);
  }
  s.gradient = normal_values(static_cast<int64_t>(s.index.size()) * 4, 1);
  s.before = normal_values(12 * 4, 2);
  expect_scattered(s);
}

TEST(EmbeddingBackwardTest, EntriesOfPatchesStandAtTheirPlaces) {
  Scatter s = make_scatter(50, 16, 20, 3);
  s.gradient = normal_values(200 * 16, 4);
  for (int64_t i = 0; i < 50; ++i) s.places.push_back(4 * i + 1);
  expect_scattered(s);
}

TEST(EmbeddingBackwardTest, NothingButOutsidersChangesNothing) {
  Scatter s = make_scatter(70, 8, 5, 3);
  for (size_t i = 0; i < s.index.size(); ++i) s.index[i] = i % 2 == 0 ? -1 : 5;
  TestDevice device;
  EXPECT_EQ(run_scatter(device, s), s.before);
}

TEST(EmbeddingBackwardTest, PlacesOutsideTheGradientAddNothing) {
  Scatter s = make_scatter(3, 4, 2, 3);
  s.index = {0, 1, 1};
  s.places = {-1, 3, 2};
  TestDevice device;
  const std::vector<float> after = run_scatter(device, s);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(after[i], s.before[i]);
    EXPECT_EQ(after[4 + i], s.before[4 + i] + s.gradient[8 + i]);
  }
}

TEST(EmbeddingOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Scatter s = make_scatter(4200, 12, 30, 3);
  const Case c{100, 40};
  const Problem problem(c);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    return std::vector<std::vector<float>>{run_scatter(device, s), run(device, c, problem)};
  });
}

TEST(EmbeddingBackwardCounters, ReadsGradientsOnce) {
  const Scatter s = make_scatter(512, 512, 60, 3);
  TestDevice device;
  run_scatter(device, s);
  EXPECT_LE(device.counters("sum_runs").sector_factor(), 1.01);
  // Lanes count under their keys' digits, and different digits may share a bank.
  EXPECT_LE(device.counters("move_items").conflict_factor(), 1.5);
}

TEST(EmbeddingArguments, AreChecked) {
  TestDevice device;
  const auto floats = device.buffer("floats", std::vector<float>(64, 1.0f));
  const auto index = device.input("index", std::vector<int32_t>{0, 0});
  float* p = floats.data();
  const Lookup lookup{p, 2, index.data()};
  const EmbeddingForward good{.places = 2, .width = 4, .tokens = lookup, .local_positions = lookup, .y = p};
  const auto refused = [&](auto change) {
    EmbeddingForward bad = good;
    change(bad);
    EXPECT_THROW(embedding_forward(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.places = -1; });
  refused([](auto& c) { c.width = 0; });
  refused([](auto& c) { c.tokens.index = nullptr; });
  refused([](auto& c) { c.tokens.table = nullptr; });
  refused([](auto& c) { c.local_positions.table_rows = -1; });
  refused([](auto& c) { c.patches = 1; });  // without patches
  refused([](auto& c) { c.patches = 3; });
  refused([](auto& c) { c.y = nullptr; });
  const EmbeddingBackward backward{.count = 2,
                                   .width = 4,
                                   .index = index.data(),
                                   .gradient_rows = 2,
                                   .gradient = p,
                                   .table_rows = 2,
                                   .table_gradient = p,
                                   .workspace = p};
  const auto backward_refused = [&](auto change) {
    EmbeddingBackward bad = backward;
    change(bad);
    EXPECT_THROW(embedding_backward(bad, nullptr), ContractError);
  };
  backward_refused([](auto& c) { c.count = -1; });
  backward_refused([](auto& c) { c.count = int64_t{1} << 31; });
  backward_refused([](auto& c) { c.width = 0; });
  backward_refused([](auto& c) { c.index = nullptr; });
  backward_refused([](auto& c) { c.gradient = nullptr; });
  backward_refused([](auto& c) { c.table_gradient = nullptr; });
  backward_refused([](auto& c) { c.workspace = nullptr; });
}

}  // namespace
}  // namespace gato::kernel_tests

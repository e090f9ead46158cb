#include "env/control/lqr.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gato/core/error.h"

namespace gato::env::control {
namespace {

constexpr int kMaxIterations = 200000;
constexpr double kTolerance = 1e-13;  // change of the cost per iteration, relative to its largest element

template <class Function>
Matrix combine(const Matrix& a, const Matrix& b, const char* what, Function function) {
  GATO_CHECK(a.rows() == b.rows() && a.cols() == b.cols(), what, " of a ", a.rows(), " x ", a.cols(), " and a ",
             b.rows(), " x ", b.cols(), " matrix");
  Matrix out(a.rows(), a.cols());
  for (int i = 0; i < a.rows(); ++i) {
    for (int j = 0; j < a.cols(); ++j) out(i, j) = function(a(i, j), b(i, j));
  }
  return out;
}

void swap_rows(Matrix& a, int first, int second) {
  for (int j = 0; j < a.cols(); ++j) std::swap(a(first, j), a(second, j));
}

/// row `target` of `a` += factor x row `source`.
void add_row(Matrix& a, int target, int source, double factor) {
  for (int j = 0; j < a.cols(); ++j) a(target, j) += factor * a(source, j);
}

int pivot_row(const Matrix& a, int column) {
  int best = column;
  for (int i = column + 1; i < a.rows(); ++i) {
    if (std::abs(a(i, column)) > std::abs(a(best, column))) best = i;
  }
  return best;
}

}  // namespace

Matrix::Matrix(int rows, int cols) : Matrix(rows, cols, std::vector<double>(static_cast<size_t>(rows * cols), 0.0)) {}

Matrix::Matrix(int rows, int cols, std::vector<double> values) : rows_(rows), cols_(cols), values_(std::move(values)) {
  GATO_CHECK(rows >= 0 && cols >= 0 && values_.size() == static_cast<size_t>(rows) * static_cast<size_t>(cols),
             values_.size(), " values for a ", rows, " x ", cols, " matrix");
}

Matrix Matrix::diagonal(const std::vector<double>& values) {
  const int size = static_cast<int>(values.size());
  Matrix out(size, size);
  for (int i = 0; i < size; ++i) out(i, i) = values[static_cast<size_t>(i)];
  return out;
}

double Matrix::max_abs() const {
  double largest = 0;
  for (const double value : values_) {
    if (!(std::abs(value) <= largest)) largest = std::abs(value);  // a NaN stays
    if (std::isnan(largest)) break;
  }
  return largest;
}

Matrix operator+(const Matrix& a, const Matrix& b) {
  return combine(a, b, "sum", [](double x, double y) { return x + y; });
}

Matrix operator-(const Matrix& a, const Matrix& b) {
  return combine(a, b, "difference", [](double x, double y) { return x - y; });
}

Matrix operator*(const Matrix& a, const Matrix& b) {
  GATO_CHECK(a.cols() == b.rows(), "product of a ", a.rows(), " x ", a.cols(), " and a ", b.rows(), " x ", b.cols(),
             " matrix");
  Matrix out(a.rows(), b.cols());
  for (int i = 0; i < a.rows(); ++i) {
    for (int k = 0; k < a.cols(); ++k) {
      for (int j = 0; j < b.cols(); ++j) out(i, j) += a(i, k) * b(k, j);
    }
  }
  return out;
}

Matrix transpose(const Matrix& a) {
  Matrix out(a.cols(), a.rows());
  for (int i = 0; i < a.rows(); ++i) {
    for (int j = 0; j < a.cols(); ++j) out(j, i) = a(i, j);
  }
  return out;
}

Matrix solve(Matrix a, Matrix b) {
  GATO_CHECK(a.rows() == a.cols() && a.rows() == b.rows(), "solving a ", a.rows(), " x ", a.cols(), " system for ",
             b.rows(), " rows");
  const double scale = a.max_abs();
  for (int column = 0; column < a.cols(); ++column) {
    const int pivot = pivot_row(a, column);
    if (!(std::abs(a(pivot, column)) > 1e-14 * scale)) throw Error("A linear system is singular and has no solution.");
    swap_rows(a, column, pivot);
    swap_rows(b, column, pivot);
    for (int row = 0; row < a.rows(); ++row) {
      if (row == column) continue;
      const double factor = -a(row, column) / a(column, column);
      add_row(a, row, column, factor);
      add_row(b, row, column, factor);
    }
  }
  for (int i = 0; i < b.rows(); ++i) {
    for (int j = 0; j < b.cols(); ++j) b(i, j) /= a(i, i);
  }
  return b;
}

Regulator solve_lqr(const LinearSystem& system, const Matrix& q, const Matrix& r) {
  const Matrix& a = system.a;
  const Matrix& b = system.b;
  const Matrix at = transpose(a);
  const Matrix bt = transpose(b);
  Regulator regulator{.gain = {}, .cost = q};
  for (int i = 0; i < kMaxIterations; ++i) {
    const Matrix btp = bt * regulator.cost;
    regulator.gain = solve(r + btp * b, btp * a);
    const Matrix next = q + at * regulator.cost * (a - b * regulator.gain);
    const double change = (next - regulator.cost).max_abs();
    regulator.cost = next;
    if (!std::isfinite(change)) break;
    if (change <= kTolerance * regulator.cost.max_abs()) return regulator;
  }
  throw Error(cat("The Riccati recursion of a system with ", a.rows(), " states and ", b.cols(),
                  " controls does not settle: the system cannot be stabilised at finite cost."));
}

}  // namespace gato::env::control

#pragma once
#include <cstddef>
#include <vector>

/// Linear quadratic regulators for the small systems of the control tasks.
namespace gato::env::control {

/// A dense row-major matrix of a few dozen numbers.
class Matrix {
 public:
  Matrix() = default;
  Matrix(int rows, int cols);                              ///< All zero.
  Matrix(int rows, int cols, std::vector<double> values);  ///< ContractError unless there are rows * cols values.
  [[nodiscard]] static Matrix diagonal(const std::vector<double>& values);

  [[nodiscard]] int rows() const { return rows_; }
  [[nodiscard]] int cols() const { return cols_; }
  double& operator()(int row, int col) { return values_[index(row, col)]; }
  double operator()(int row, int col) const { return values_[index(row, col)]; }
  [[nodiscard]] double max_abs() const;  ///< Largest magnitude; 0 when empty, NaN when an element is.

 private:
  [[nodiscard]] size_t index(int row, int col) const {
    return static_cast<size_t>(row) * static_cast<size_t>(cols_) + static_cast<size_t>(col);
  }
  int rows_ = 0, cols_ = 0;
  std::vector<double> values_;
};

// ContractError for shapes that do not fit.
[[nodiscard]] Matrix operator+(const Matrix& a, const Matrix& b);
[[nodiscard]] Matrix operator-(const Matrix& a, const Matrix& b);
[[nodiscard]] Matrix operator*(const Matrix& a, const Matrix& b);
[[nodiscard]] Matrix transpose(const Matrix& a);
/// X with a X = b (Gaussian elimination with row pivoting). Error when `a` is singular.
[[nodiscard]] Matrix solve(Matrix a, Matrix b);

/// x' = a x + b u, one control step.
struct LinearSystem {
  Matrix a;  ///< n x n.
  Matrix b;  ///< n x m.
};

/// Solution of the infinite-horizon problem: minimise the sum of x^T q x + u^T r u.
struct Regulator {
  Matrix gain;  ///< m x n; the best control is u = -gain x.
  Matrix cost;  ///< n x n; x^T cost x is the cost to go. Solves the discrete algebraic Riccati equation.
};

/// Iterates the Riccati recursion from `q` to its fixed point. `q` is positive semidefinite, `r` positive definite (not
/// checked beyond solvability). Error when it does not settle, as for a system that cannot be stabilised.
[[nodiscard]] Regulator solve_lqr(const LinearSystem& system, const Matrix& q, const Matrix& r);

}  // namespace gato::env::control

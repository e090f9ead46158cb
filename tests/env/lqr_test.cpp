#include "env/control/lqr.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::env::control {
namespace {

void expect_near(const Matrix& actual, const Matrix& expected, double tolerance) {
  ASSERT_EQ(actual.rows(), expected.rows());
  ASSERT_EQ(actual.cols(), expected.cols());
  for (int i = 0; i < actual.rows(); ++i) {
    for (int j = 0; j < actual.cols(); ++j) {
      EXPECT_NEAR(actual(i, j), expected(i, j), tolerance) << "element " << i << ", " << j;
    }
  }
}

Matrix random_matrix(int rows, int cols, Rng& rng) {
  Matrix out(rows, cols);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; ++j) out(i, j) = rng.uniform(-1, 1);
  }
  return out;
}

TEST(MatrixTest, ProductsSumsAndTransposes) {
  const Matrix a(2, 3, {1, 2, 3, 4, 5, 6});
  const Matrix b(3, 2, {7, 8, 9, 10, 11, 12});
  expect_near(a * b, Matrix(2, 2, {58, 64, 139, 154}), 0);
  expect_near(transpose(a), Matrix(3, 2, {1, 4, 2, 5, 3, 6}), 0);
  expect_near(a + transpose(b), Matrix(2, 3, {8, 11, 14, 12, 15, 18}), 0);
  expect_near(a - transpose(b), Matrix(2, 3, {-6, -7, -8, -4, -5, -6}), 0);
  expect_near(Matrix::diagonal({2, 3}) * a, Matrix(2, 3, {2, 4, 6, 12, 15, 18}), 0);
}

TEST(MatrixTest, ShapesThatDoNotFitAreRefused) {
  const Matrix a(2, 3);
  EXPECT_THROW(a * a, ContractError);
  EXPECT_THROW(a + transpose(a), ContractError);
  EXPECT_THROW(solve(a, a), ContractError);
  EXPECT_THROW(Matrix(2, 2, {1, 2, 3}), ContractError);
}

TEST(MatrixTest, MaxAbsKeepsNan) {
  EXPECT_EQ(Matrix().max_abs(), 0);
  EXPECT_EQ(Matrix(1, 3, {1, -5, 2}).max_abs(), 5);
  EXPECT_TRUE(std::isnan(Matrix(1, 3, {1, std::numeric_limits<double>::quiet_NaN(), 9}).max_abs()));
}

TEST(MatrixTest, SolveUndoesTheProduct) {
  Rng rng(3);
  for (int size = 1; size <= 8; ++size) {
    const Matrix a = random_matrix(size, size, rng);
    const Matrix x = random_matrix(size, 3, rng);
    expect_near(solve(a, a * x), x, 1e-9);
  }
}

TEST(MatrixTest, SolveExchangesRowsWhenAPivotIsZero) {
  expect_near(solve(Matrix(2, 2, {0, 1, 1, 0}), Matrix(2, 1, {3, 4})), Matrix(2, 1, {4, 3}), 0);
}

TEST(MatrixTest, SolveRefusesSingularSystems) {
  EXPECT_THROW(solve(Matrix(2, 2, {1, 2, 2, 4}), Matrix(2, 1, {1, 1})), Error);
  EXPECT_THROW(solve(Matrix(1, 1), Matrix(1, 1, {1})), Error);
}

// x' = a x + b u: the cost p solves p = q + a^2 p r / (r + b^2 p), a quadratic equation.
TEST(LqrTest, ScalarSystemsMatchTheClosedForm) {
  for (const double a : {0.5, 1.0, 1.7}) {
    for (const double b : {0.3, 2.0}) {
      const double q = 2, r = 0.7;
      const double linear = r * (1 - a * a) - q * b * b;
      const double p = (-linear + std::sqrt(linear * linear + 4 * b * b * q * r)) / (2 * b * b);
      const Regulator regulator =
          solve_lqr({.a = Matrix(1, 1, {a}), .b = Matrix(1, 1, {b})}, Matrix(1, 1, {q}), Matrix(1, 1, {r}));
      EXPECT_NEAR(regulator.cost(0, 0), p, 1e-9 * p);
      EXPECT_NEAR(regulator.gain(0, 0), a * b * p / (r + b * b * p), 1e-9);
    }
  }
}

// Reference: scipy.linalg.solve_discrete_are (SciPy 1.15), gain = solve(R + B'PB, B'PA).
TEST(LqrTest, DoubleIntegratorMatchesReference) {
  const LinearSystem system{.a = Matrix(2, 2, {1, 0.1, 0, 1}), .b = Matrix(2, 1, {0.005, 0.1})};
  const Regulator regulator = solve_lqr(system, Matrix::diagonal({1, 1}), Matrix::diagonal({1}));
  expect_near(regulator.cost,
              Matrix(2, 2, {17.834931322189007, 10.01249219725043, 10.01249219725043, 17.856586460328874}), 1e-8);
  expect_near(regulator.gain, Matrix(1, 2, {0.917074563114098, 1.635596185046635}), 1e-9);
}

const LinearSystem kUnstable{.a = Matrix(3, 3, {1.1, 0.2, 0, 0, 0.9, -0.3, 0.1, 0, 1.05}),
                             .b = Matrix(3, 2, {0, 0.5, 1, 0, 0.2, -0.4})};
const Matrix kStateCost = Matrix::diagonal({1, 2, 3});
const Matrix kControlCost(2, 2, {1, 0.2, 0.2, 0.5});

// Reference as above.
TEST(LqrTest, UnstableSystemWithTwoControlsMatchesReference) {
  const Regulator regulator = solve_lqr(kUnstable, kStateCost, kControlCost);
  expect_near(regulator.cost,
              Matrix(3, 3,
                     {21.251733356620804, 1.171157679444133, 20.570259723515257,  //
                      1.171157679444133, 2.767945775539217, 0.439570513504041,    //
                      20.570259723515257, 0.439570513504041, 26.114719307763696}),
              1e-8);
  expect_near(regulator.gain,
              Matrix(2, 3,
                     {1.150458534015185, 0.697918316912643, 1.080284805172341,  //
                      1.109900562424346, 0.252504008279869, -0.519340100072908}),
              1e-9);
}

double played_cost(const Matrix& gain, Matrix x) {
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    const Matrix u = Matrix(gain.rows(), x.cols()) - gain * x;
    sum += (transpose(x) * kStateCost * x + transpose(u) * kControlCost * u)(0, 0);
    x = kUnstable.a * x + kUnstable.b * u;
  }
  return sum;
}

TEST(LqrTest, PlayedCostIsThePredictedOneAndTheLeast) {
  const Regulator regulator = solve_lqr(kUnstable, kStateCost, kControlCost);
  const Matrix x(3, 1, {0.7, -1.3, 0.4});
  const double predicted = (transpose(x) * regulator.cost * x)(0, 0);
  EXPECT_NEAR(played_cost(regulator.gain, x), predicted, 1e-8 * predicted);
  Rng rng(5);
  for (int i = 0; i < 20; ++i) {
    const Matrix other = regulator.gain + Matrix::diagonal({0.03, 0.03}) * random_matrix(2, 3, rng);
    EXPECT_GT(played_cost(other, x), predicted);
  }
}

TEST(LqrTest, SystemsThatCannotBeStabilisedAreRefused) {
  const LinearSystem uncontrolled{.a = Matrix::diagonal({1.5, 0.5}), .b = Matrix(2, 1, {0, 1})};
  EXPECT_THROW(solve_lqr(uncontrolled, Matrix::diagonal({1, 1}), Matrix::diagonal({1})), Error);
}

}  // namespace
}  // namespace gato::env::control

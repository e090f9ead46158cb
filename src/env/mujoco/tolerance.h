#pragma once
#include <cmath>
#include <limits>

/// The soft indicator functions that the control suite makes its rewards of.
namespace gato::env::mujoco {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

/// How far x lies outside [low, high].
[[nodiscard]] inline double distance_outside(double x, double low, double high) {
  return x < low ? low - x : (x > high ? x - high : 0.0);
}

/// 1 inside [low, high], falling as a bell curve to 0.1 at `margin` outside.
[[nodiscard]] inline double near(double x, double low, double high, double margin) {
  const double d = distance_outside(x, low, high) / margin;
  return std::exp(std::log(0.1) * d * d);
}

/// 1 inside [low, high], falling along a straight line to `at_margin` at `margin` outside, and on to 0.
[[nodiscard]] inline double near_linear(double x, double low, double high, double margin, double at_margin) {
  const double d = distance_outside(x, low, high) / margin;
  return std::fmax(0.0, 1 - (1 - at_margin) * d);
}

/// 1 at 0, falling as a parabola to 0 at -1 and 1.
[[nodiscard]] inline double near_quadratic(double x) { return std::fmax(0.0, 1 - x * x); }

/// 1 inside [low, high], else 0.
[[nodiscard]] inline double inside(double x, double low, double high) { return low <= x && x <= high ? 1.0 : 0.0; }

}  // namespace gato::env::mujoco

#include <algorithm>
#include <iostream>
#include <memory>

#include "eval_queue_verbs.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/run/compare.h"
#include "program.h"

namespace gato::cli {
namespace {

std::string interval(const std::pair<double, double>& ends) {
  return cat(format_fixed(ends.first, 1), " .. ", format_fixed(ends.second, 1));
}

std::string left(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string right(const std::string& text, size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

int compare(const std::string& a, const std::string& b) {
  const run::Comparison result = run::compare_results(run::read_results(a), run::read_results(b));
  std::cout << "A: " << a << "\nB: " << b << "\n\n";
  size_t width = 4;
  for (const auto& [task, line] : result.tasks) width = std::max(width, task.size());
  std::cout << left("task", width) << "  rollouts      A      B  B - A  95 % interval     P(B better)\n";
  for (const auto& [task, line] : result.tasks) {
    std::cout << left(task, width) << "  " << right(cat(line.rollouts), 8) << " "
              << right(format_fixed(line.score_a, 1), 6) << " " << right(format_fixed(line.score_b, 1), 6) << " "
              << right(format_fixed(line.score_b - line.score_a, 1), 6) << "  "
              << left(interval(line.difference_ci95), 16) << "  " << format_fixed(line.probability_b_better, 3) << "\n";
  }
  for (const auto& [task, why] : result.left_out) std::cout << "left out: " << task << " " << why << "\n";
  std::cout << "\nmean over domains: A " << format_fixed(result.mean_a, 1) << ", B " << format_fixed(result.mean_b, 1)
            << ", difference " << format_fixed(result.mean_b - result.mean_a, 1) << " ("
            << interval(result.difference_ci95) << "), probability that B is better "
            << format_fixed(result.probability_b_better, 3) << "\n";
  return kDone;
}

}  // namespace

std::function<int()> add_compare(CLI::App& app) {
  auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("compare", "Compare two evaluations on the episodes that both played");
  verb->add_option("A", *a, "Folder of results, such as RUN/eval/results/step-00001000@demo")
      ->required()
      ->check(CLI::ExistingDirectory);
  verb->add_option("B", *b, "Another")->required()->check(CLI::ExistingDirectory);
  return [=] { return verb->parsed() ? compare(*a, *b) : -1; };
}

}  // namespace gato::cli

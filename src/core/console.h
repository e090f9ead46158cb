#pragma once
#include <string_view>

/// Standard error, shared by log messages and progress bars: a message never lands inside a bar. Thread-safe.
namespace gato::console {

[[nodiscard]] bool is_terminal();

/// Columns of the terminal, 80 when unknown.
[[nodiscard]] int width();

/// Writes `text` (whole lines, each with its line end), above the bar when there is one.
void write_lines(std::string_view text);

/// Redraws the bar (one line without line end); only on a terminal.
void draw_bar(std::string_view bar);

/// Writes `bar` for the last time and goes to the next line.
void end_bar(std::string_view bar);

/// Silences progress, for processes of other ranks than 0.
void set_progress_silent(bool silent);
[[nodiscard]] bool progress_silent();

}  // namespace gato::console

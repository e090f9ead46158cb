#pragma once
#include <string>

/// Where every thread of this process is, for a run that hangs.
namespace gato {

/// Prepares for stacks_of_all_threads(): takes the real-time signal SIGRTMIN+6 and does what must not be done first in
/// a signal handler. Idempotent; to be called before other threads are asked.
void prepare_stack_dumps();

/// The call stack of every thread of this process, with its name, number and what the kernel says it does, one
/// function a line. A thread that does not answer within `patience_seconds` (it is inside the kernel, or stopped) is
/// listed without a stack. May be called from any thread, one call at a time; the threads go on afterwards.
[[nodiscard]] std::string stacks_of_all_threads(double patience_seconds = 1.0);

}  // namespace gato

#pragma once

/// Signals as flags that every loop polls; the handlers do nothing else (async-signal-safe).
namespace gato {

/// Installs handlers: TERM and INT and USR1 ask to stop (a second INT ends the process at once with 130), USR2 asks to
/// save and go on; PIPE and XFSZ (a file over the size limit) are ignored, so that writes report them. Idempotent.
void install_signal_handlers();

[[nodiscard]] bool stop_requested();     ///< Whether a signal (or request_stop) asked to stop.
[[nodiscard]] int stop_signal();         ///< The signal's number, 0 when there was none.
void request_stop();                     ///< As if TERM had come; for tests and for watchdogs.
[[nodiscard]] bool take_save_request();  ///< Whether USR2 came since the last call; clears it.
void clear_signal_flags();               ///< For tests.

/// Throws Interrupted naming `doing` when stop_requested().
void throw_if_stopped(const char* doing);

}  // namespace gato

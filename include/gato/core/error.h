#pragma once
#include <stdexcept>
#include <string>

#include "gato/core/text.h"

namespace gato {

/// Base of every error the project throws on purpose. The message says what was wrong, where, and what to do.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A setting, an argument or a combination of them is wrong. Programs exit with 2.
class ConfigError : public Error {
  using Error::Error;
};

/// Data on disk or given by a caller is damaged or does not fit its specification. Programs exit with 1.
class DataError : public Error {
  using Error::Error;
};

/// A checkpoint is damaged, incomplete or does not fit the model. Programs exit with 1.
class CheckpointError : public Error {
  using Error::Error;
};

/// A device is missing, out of memory or failed. Programs exit with 1.
class DeviceError : public Error {
  using Error::Error;
};

/// The operating system refused an operation on a file (full disk, read-only folder, missing file). Programs exit
/// with 1.
class IoError : public Error {
 public:
  IoError(const std::string& message, int error_number) : Error(message), error_number_(error_number) {}
  [[nodiscard]] int error_number() const { return error_number_; }  ///< The `errno` value.

 private:
  int error_number_;
};

/// Work ended early because a signal asked for it, after everything worth keeping was saved. Programs exit with 75.
class Interrupted : public Error {
  using Error::Error;
};

/// Another process of the run died, stopped or cannot be reached. Programs exit with 76.
class PeerError : public Error {
  using Error::Error;
};

/// The run has failed at the same step again and again: restarting it is of no use. Programs exit with 93.
class NoProgressError : public Error {
  using Error::Error;
};

/// A caller broke a function's contract (GATO_CHECK). A bug in the calling code, never caused by data.
class ContractError : public Error {
  using Error::Error;
};

namespace detail {
[[noreturn]] void fail_check(const char* file, int line, const char* condition, const std::string& message);
}  // namespace detail

}  // namespace gato

/// Throws ContractError with file, line, condition and the message parts unless `condition` holds. Always on.
#define GATO_CHECK(condition, ...)                                                          \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      ::gato::detail::fail_check(__FILE__, __LINE__, #condition, ::gato::cat(__VA_ARGS__)); \
    }                                                                                       \
  } while (false)

/// GATO_CHECK for our own invariants on hot paths: on only in builds with GATO_DCHECKS.
#ifdef GATO_DCHECKS
#define GATO_DCHECK(condition, ...) GATO_CHECK(condition, __VA_ARGS__)
#else
#define GATO_DCHECK(condition, ...) \
  do {                              \
  } while (false)
#endif

#pragma once
#include <cstdint>
#include <string>
#include <vector>

/// A socket that shows by its mere presence that a process and the way to it are there. No byte is ever exchanged.
namespace gato::run {

/// Listens at a free port of `address` (numeric, IPv4 or IPv6) until destruction.
class PresenceSocket {
 public:
  explicit PresenceSocket(const std::string& address);  ///< Throws IoError.
  PresenceSocket(const PresenceSocket&) = delete;
  PresenceSocket& operator=(const PresenceSocket&) = delete;
  ~PresenceSocket();
  [[nodiscard]] int64_t port() const { return port_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  void answer() const;  ///< Takes and closes whatever waits.

 private:
  int descriptor_ = -1;
  int64_t port_ = 0;
};

enum class Reach {
  kReached,  ///< Somebody listens there.
  kRefused,  ///< The host answers that nobody listens.
  kSilent,   ///< No answer in time, or no way there.
  kUnknown,  ///< It could not be tried.
};

struct Place {
  std::string address;
  int64_t port = 0;
};

/// Tries all places at once, for at most `seconds`.
[[nodiscard]] std::vector<Reach> try_to_reach(const std::vector<Place>& places, double seconds);

}  // namespace gato::run

#include "run/reach.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"

namespace gato::run {
namespace {

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

/// Null when `address` is no numeric address: nothing is looked up, which could take minutes where a network is down.
Addresses parse_address(const std::string& address, int64_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
  return {found, ::freeaddrinfo};
}

[[noreturn]] void fail(const std::string& address, const char* doing) {
  const int error_number = errno;
  throw IoError(cat(address, ": ", doing, ": ", std::strerror(error_number)), error_number);
}

/// One connection being made.
class Attempt {
 public:
  explicit Attempt(const Place& place) {
    const Addresses address = parse_address(place.address, place.port);
    if (!address) return;
    descriptor_ = ::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor_ < 0) return;
    const int error = ::connect(descriptor_, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    if (error != EINPROGRESS) settle(error);
  }
  Attempt(Attempt&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), result_(other.result_) {}
  Attempt& operator=(Attempt&&) = delete;
  ~Attempt() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  [[nodiscard]] bool open() const { return descriptor_ >= 0; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  void finish() {
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    settle(error);
  }
  /// What is still under way has had no answer.
  [[nodiscard]] Reach result() const { return open() ? Reach::kSilent : result_; }

 private:
  void settle(int error) {
    ::close(std::exchange(descriptor_, -1));
    result_ = error == 0 ? Reach::kReached : error == ECONNREFUSED ? Reach::kRefused : Reach::kSilent;
  }

  int descriptor_ = -1;
  Reach result_ = Reach::kUnknown;
};

}  // namespace

PresenceSocket::PresenceSocket(const std::string& address) {
  const Addresses where = parse_address(address, 0);
  if (!where) throw IoError(cat("\"", excerpt(address), "\" is no numeric address"), EINVAL);
  descriptor_ = ::socket(where->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0) fail(address, "cannot make a socket");
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  constexpr int kBacklog = 128;
  if (::bind(descriptor_, where->ai_addr, where->ai_addrlen) != 0 || ::listen(descriptor_, kBacklog) != 0 ||
      ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    const int error_number = errno;
    ::close(descriptor_);
    errno = error_number;
    fail(address, "cannot listen");
  }
  port_ = ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

PresenceSocket::~PresenceSocket() { ::close(descriptor_); }

void PresenceSocket::answer() const {
  for (int taken = 0; (taken = ::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) ::close(taken);
}

std::vector<Reach> try_to_reach(const std::vector<Place>& places, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  std::vector<Attempt> attempts;
  attempts.reserve(places.size());
  for (const Place& place : places) attempts.emplace_back(place);
  for (;;) {
    std::vector<pollfd> waiting;
    std::vector<Attempt*> whose;
    for (Attempt& attempt : attempts) {
      if (!attempt.open()) continue;
      waiting.push_back({attempt.descriptor(), POLLOUT, 0});
      whose.push_back(&attempt);
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (waiting.empty() || left <= 0) break;
    if (::poll(waiting.data(), waiting.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    for (size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].revents != 0) whose[i]->finish();
    }
  }
  std::vector<Reach> results;
  for (const Attempt& attempt : attempts) results.push_back(attempt.result());
  return results;
}

}  // namespace gato::run

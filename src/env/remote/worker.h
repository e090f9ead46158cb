#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "env/remote/frame.h"
#include "env/remote/messages.h"
#include "env/remote/process.h"
#include "gato/episode/image.h"

namespace gato::env::remote {

/// A worker that died, hung or talked nonsense; it has been ended. The message says which and what it printed.
class WorkerLost : public Error {
  using Error::Error;
};

/// A worker process after the handshake. Used by one thread at a time. Every call may throw WorkerLost, after which
/// only destruction is left; EnvironmentError when the worker refuses.
class Worker {
 public:
  Worker(std::string family, const WorkerProgram& program, const RemoteLimits& limits);

  [[nodiscard]] const std::string& family() const { return family_; }
  [[nodiscard]] const std::map<std::string, std::string>& packages() const { return packages_; }
  [[nodiscard]] bool lost() const { return lost_; }

  /// Sends a request; receive() fetches its answer, of which no other may be due.
  void send(const Request& request);
  /// The answer, which must be an Answer.
  template <class Answer>
  [[nodiscard]] Answer receive() {
    return take<Answer>(receive_reply(limits_.call_seconds));
  }
  template <class Answer>
  [[nodiscard]] Answer call(const Request& request) {
    send(request);
    return receive<Answer>();
  }
  /// For what takes long: making environments, describing tasks.
  template <class Answer>
  [[nodiscard]] Answer long_call(const Request& request) {
    send(request);
    return take<Answer>(receive_reply(limits_.start_seconds));
  }
  /// The frame of a slot; nothing when the task has none.
  [[nodiscard]] std::optional<episode::Image> look(uint32_t slot);

  /// For callers who find that an answer makes no sense: ends the worker and throws WorkerLost.
  [[noreturn]] void give_up(const std::string& why);

 private:
  template <class Answer>
  Answer take(Reply reply) {
    if (auto* refused = std::get_if<Refused>(&reply)) refuse(refused->message);
    if (auto* answer = std::get_if<Answer>(&reply)) return std::move(*answer);
    give_up("another answer came than was asked for");
  }
  [[noreturn]] void refuse(const std::string& message) const;
  Reply receive_reply(double seconds);

  std::string family_;
  RemoteLimits limits_;
  WorkerProcess process_;
  FrameReader reader_{FrameType::kReply};
  std::map<std::string, std::string> packages_;
  bool lost_ = false;
};

/// The program that plays `family`: its Python with tools/env_worker. ConfigError when it is not set up.
[[nodiscard]] WorkerProgram program_of(const std::string& family);

/// An idle worker of `family`, or a new one. Thread-safe.
[[nodiscard]] std::unique_ptr<Worker> borrow_worker(const std::string& family);
/// Gives back a worker, whose environments are dropped; it is kept for the next, unless it was lost or there are
/// enough.
void return_worker(std::unique_ptr<Worker> worker);

}  // namespace gato::env::remote

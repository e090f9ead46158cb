#include "env/remote/worker.h"

#include <mutex>
#include <optional>

#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "gato/env/suite.h"

namespace gato::env::remote {

namespace {

/// Room for a frame of 2048 x 2048 pixels; pages that no frame touches are never taken.
constexpr size_t kMemoryBytes = size_t{16} << 20;

/// Idle workers by family, most recently used last.
class IdleWorkers {
 public:
  static IdleWorkers& instance() {
    static IdleWorkers workers;
    return workers;
  }

  std::unique_ptr<Worker> take(const std::string& family) {
    const std::lock_guard lock(mutex_);
    for (size_t i = workers_.size(); i-- > 0;) {
      if (workers_[i]->family() != family) continue;
      std::unique_ptr<Worker> worker = std::move(workers_[i]);
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i));
      return worker;
    }
    return nullptr;
  }

  void put(std::unique_ptr<Worker> worker) {
    std::unique_ptr<Worker> oldest;  // ended after the lock is released
    const std::lock_guard lock(mutex_);
    workers_.push_back(std::move(worker));
    if (workers_.size() <= static_cast<size_t>(thread_budget()) + 2) return;
    oldest = std::move(workers_.front());
    workers_.erase(workers_.begin());
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace

Worker::Worker(std::string family, const WorkerProgram& program, const RemoteLimits& limits)
    : family_(std::move(family)), limits_(limits), process_(program, limits, kMemoryBytes) {
  send(Hello{kProtocolVersion, family_, kMemoryBytes});
  const auto welcome = take<Welcome>(receive_reply(limits.start_seconds));
  if (welcome.protocol != kProtocolVersion) give_up(cat("it speaks protocol ", welcome.protocol));
  if (welcome.process_id != static_cast<uint32_t>(process_.pid())) give_up("another process than was started answers");
  packages_ = welcome.packages;
}

void Worker::send(const Request& request) {
  try {
    process_.send(make_frame(FrameType::kRequest, encode(request)), Deadline(limits_.call_seconds));
  } catch (const DataError& error) {
    give_up(error.what());
  }
}

Reply Worker::receive_reply(double seconds) {
  const Deadline deadline(seconds);
  try {
    while (true) {
      if (const std::optional<std::string> body = reader_.next()) {
        if (reader_.has_rest()) throw DataError("more came than was asked for");
        return parse_reply(*body);
      }
      // One that sends a byte now and then hangs all the same.
      if (Deadline::Clock::now() >= deadline.at) {
        throw DataError(cat("no whole answer within ", format_seconds(seconds)));
      }
      reader_.append(process_.receive(deadline));
    }
  } catch (const DataError& error) {
    give_up(error.what());
  }
}

void Worker::refuse(const std::string& message) const {
  throw EnvironmentError(cat("The worker for ", family_, " refuses: ", message));
}

void Worker::give_up(const std::string& why) {
  lost_ = true;
  throw WorkerLost(cat("the worker for ", family_, " failed: ", why, "; it ", process_.end()));
}

std::optional<episode::Image> Worker::look(uint32_t slot) {
  const auto picture = call<Picture>(Look{slot});
  if (picture.height == 0 || picture.width == 0) return std::nullopt;
  const uint64_t bytes = uint64_t{picture.height} * picture.width * 3;
  if (picture.height > 1U << 15 || picture.width > 1U << 15 || bytes > process_.memory().size()) {
    give_up(cat("it claims a frame of ", picture.height, " x ", picture.width, " pixels"));
  }
  episode::Image image;
  image.height = static_cast<int32_t>(picture.height);
  image.width = static_cast<int32_t>(picture.width);
  const auto* pixels = reinterpret_cast<const uint8_t*>(process_.memory().data());
  image.pixels.assign(pixels, pixels + bytes);
  return image;
}

WorkerProgram program_of(const std::string& family) {
  // -I: neither the user's packages nor the working directory; -B: nothing is written; -u: what it prints is seen.
  return {
      .command = {family_python(family).string(), "-I", "-B", "-u", data_root() + "/tools/env_worker/worker.py", family,
                  std::to_string(kWorkerSocket), std::to_string(kWorkerMemory), std::to_string(kWorkerLifeline)},
      .in_child = {}};
}

std::unique_ptr<Worker> borrow_worker(const std::string& family) {
  if (auto worker = IdleWorkers::instance().take(family)) return worker;
  log::debug("env", "starts a worker for ", family);
  return std::make_unique<Worker>(family, program_of(family), remote_limits());
}

void return_worker(std::unique_ptr<Worker> worker) {
  if (worker == nullptr || worker->lost()) return;
  try {
    static_cast<void>(worker->call<Closed>(Close{}));
  } catch (const Error& error) {
    log::debug("env", error.what());
    return;
  }
  IdleWorkers::instance().put(std::move(worker));
}

}  // namespace gato::env::remote

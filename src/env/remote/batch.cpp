#include "env/remote/batch.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "env/remote/values.h"
#include "gato/core/log.h"

namespace gato::env::remote {

namespace {

constexpr int64_t kEpisodesPerRestart = 10;

/// `offered` with what only the catalogue knows.
TaskSpec completed(TaskSpec offered, const TaskSpec& known) {
  offered.scoring = known.scoring;
  offered.expert = known.expert;
  offered.random = known.random;
  offered.licence = known.licence;
  return offered;
}

/// Versions that differ, for people: "mujoco is 3.2.0, expected 3.3.0".
std::string version_differences(const std::map<std::string, std::string>& here,
                                const std::map<std::string, std::string>& expected) {
  std::vector<std::string> differences;
  for (const auto& [name, version] : expected) {
    const auto found = here.find(name);
    const std::string there = found == here.end() ? "missing" : found->second;
    if (there != version) {
      differences.push_back(cat(name, " is ", there, ", expected ", version));
    }
  }
  return join(differences, "; ");
}

StepValues clipped(const TaskSpec& spec, StepValues action) {
  for (size_t i = 0; i < action.size(); ++i) {
    for (size_t e = 0; e < action[i].continuous.size(); ++e) {
      const auto element = static_cast<int64_t>(e);
      float& value = action[i].continuous[e];
      value = std::clamp(value, spec.action[i].low_of(element), spec.action[i].high_of(element));
    }
  }
  return action;
}

}  // namespace

WorkerSource idle_workers(const std::string& family) {
  return {.borrow = [family] { return borrow_worker(family); }, .give_back = return_worker};
}

RemoteBatch::RemoteBatch(TaskSpec spec, std::map<std::string, std::string> packages, int size, int workers,
                         WorkerSource source, int spare_restarts)
    : spec_(std::move(spec)),
      packages_(std::move(packages)),
      source_(std::move(source)),
      spare_restarts_(spare_restarts),
      slots_(static_cast<size_t>(size)),
      hosts_(static_cast<size_t>(std::clamp(workers, 1, size))) {
  const size_t count = hosts_.size();
  for (size_t i = 0; i < count; ++i) {
    hosts_[i].first = static_cast<uint32_t>(slots_.size() * i / count);
    hosts_[i].count = static_cast<uint32_t>(slots_.size() * (i + 1) / count) - hosts_[i].first;
  }
}

RemoteBatch::~RemoteBatch() {
  for (Host& host : hosts_) {
    // A worker whose answer nobody fetched would give it to the next who asks.
    if (!busy_ && host.worker != nullptr) source_.give_back(std::move(host.worker));
  }
}

// ----------------------------------------------------------------------------------------------------------------
// slots

RemoteBatch::Slot& RemoteBatch::at(int slot) {
  GATO_CHECK(slot >= 0 && slot < size(), "slot ", slot, " of ", size());
  return slots_[static_cast<size_t>(slot)];
}

bool RemoteBatch::playing(int slot) const {
  GATO_CHECK(slot >= 0 && slot < size(), "slot ", slot, " of ", size());
  return slots_[static_cast<size_t>(slot)].state != State::kIdle;
}

RemoteBatch::Host& RemoteBatch::host_of(int slot) {
  const auto number = static_cast<uint32_t>(slot);
  const auto host = std::find_if(hosts_.begin(), hosts_.end(), [number](const Host& candidate) {
    return number < candidate.first + candidate.count;
  });
  return *host;
}

void RemoteBatch::fail_slot(int slot, const std::string& why) {
  Slot& place = at(slot);
  place.state = State::kFailed;
  place.failure = why;
}

StepResult RemoteBatch::failed_step(const std::string& why) const {
  StepResult result;
  result.observation = blank_values(spec_.observation);
  result.truncated = true;
  result.failure = why;
  return result;
}

// --------------------------------------------------------------------------------------------------------------
// workers

void RemoteBatch::count_loss(const std::string& why) {
  ++losses_;
  log::warning("env", spec_.id, ": ", why);
  if (losses_ <= spare_restarts_ + finished_ / kEpisodesPerRestart) return;
  throw EnvironmentError(cat("Task ", spec_.id, ": workers failed ", losses_, " times in ", finished_,
                             " finished episodes; the last one: ", why));
}

/// The worker is gone, and with it the episodes it played.
void RemoteBatch::lose(Host& host, const std::string& why) {
  host.worker = nullptr;
  for (uint32_t slot = host.first; slot < host.first + host.count; ++slot) {
    if (slots_[slot].state == State::kPlaying) fail_slot(static_cast<int>(slot), why);
  }
  count_loss(why);
}

void RemoteBatch::open_task(Worker& worker, uint32_t slots) const {
  const auto opened = worker.long_call<Opened>(Open{spec_.id, slots});
  const std::string versions = version_differences(worker.packages(), packages_);
  if (completed(opened.task.spec, spec_) == spec_) {
    static std::atomic<bool> told = false;
    if (!versions.empty() && !told.exchange(true)) {
      log::warning("env", spec_.id, " is played with other packages than its scores were measured with: ", versions);
    }
    return;
  }
  throw EnvironmentError(cat("Task ", spec_.id, " is another one than data/environments/", worker.family(),
                             ".json says", versions.empty() ? "" : cat(" (", versions, ")"),
                             ": run tools/setup --envs ", worker.family(),
                             ", or measure anew with gato-data environments ", worker.family(), "."));
}

/// The worker of `host`, started if there is none. Throws EnvironmentError when too many were lost.
Worker& RemoteBatch::worker_of(Host& host) {
  while (host.worker == nullptr) {
    try {
      std::unique_ptr<Worker> worker = source_.borrow();
      open_task(*worker, host.count);
      host.worker = std::move(worker);
    } catch (const WorkerLost& error) {
      count_loss(error.what());
    }
  }
  return *host.worker;
}

// -----------------------------------------------------------------------------------------------------------------
// play

/// The first observation; nothing, and `failure` says why, when the episode cannot begin.
std::optional<StepValues> RemoteBatch::try_reset(int slot, uint64_t seed, std::string& failure) {
  Host& host = host_of(slot);
  try {
    Worker& worker = worker_of(host);
    const auto answer = worker.call<Observations>(Reset{{static_cast<uint32_t>(slot) - host.first}, {seed}});
    if (!answer.failures.empty()) {
      failure = answer.failures.front().message;
      return std::nullopt;
    }
    std::vector<StepValues> values;
    try {
      values = unpack(spec_.observation, answer.columns, 1);
    } catch (const DataError& error) {
      worker.give_up(error.what());
    }
    failure = problem_with(spec_.observation, values.front());
    if (failure.empty()) return std::move(values.front());
  } catch (const WorkerLost& error) {
    failure = error.what();
    lose(host, failure);
  }
  return std::nullopt;
}

StepValues RemoteBatch::reset(int slot, uint64_t seed) {
  GATO_CHECK(!busy_, "reset between start and wait");
  at(slot).state = State::kIdle;
  std::string failure;
  for (int tries = 0; tries < 2; ++tries) {
    if (auto observation = try_reset(slot, seed, failure)) {
      at(slot).state = State::kPlaying;
      return std::move(*observation);
    }
  }
  fail_slot(slot, cat("the episode of seed ", seed, " cannot begin: ", failure));
  return blank_values(spec_.observation);
}

void RemoteBatch::start(std::span<const int> slots, std::span<const StepValues> actions) {
  GATO_CHECK(!busy_, "start was called twice without wait");
  GATO_CHECK(slots.size() == actions.size(), slots.size(), " slots and ", actions.size(), " actions");
  std::vector<bool> named(slots_.size(), false);
  for (size_t i = 0; i < slots.size(); ++i) {
    GATO_CHECK(playing(slots[i]), "slot ", slots[i], " has no episode going on: reset it first");
    GATO_CHECK(!named[static_cast<size_t>(slots[i])], "slot ", slots[i], " is named twice");
    named[static_cast<size_t>(slots[i])] = true;
    check_action(spec_, actions[i]);
  }
  stepping_.assign(slots.begin(), slots.end());
  shares_.clear();
  for (Host& host : hosts_) {
    Share share;
    share.host = &host;
    for (size_t i = 0; i < slots.size(); ++i) {
      if (&host_of(slots[i]) == &host && at(slots[i]).state == State::kPlaying) share.places.push_back(i);
    }
    if (!share.places.empty()) shares_.push_back(std::move(share));
  }
  busy_ = true;
  for (const Share& share : shares_) send_share(share, actions);
}

void RemoteBatch::send_share(const Share& share, std::span<const StepValues> actions) {
  Step step;
  std::vector<StepValues> chosen;
  for (const size_t i : share.places) {
    step.slots.push_back(static_cast<uint32_t>(stepping_[i]) - share.host->first);
    chosen.push_back(clipped(spec_, actions[i]));
  }
  step.actions = pack(spec_.action, chosen);
  try {
    share.host->worker->send(step);
  } catch (const WorkerLost& error) {
    lose(*share.host, error.what());
  }
}

void RemoteBatch::receive_share(const Share& share, std::vector<StepResult>& results) {
  if (share.host->worker == nullptr) return;  // lost while sending
  try {
    const auto steps = share.host->worker->receive<Steps>();
    std::vector<StepResult> stepped;
    try {
      stepped = read_results(spec_, steps, share.places.size());
    } catch (const DataError& error) {
      share.host->worker->give_up(error.what());
    }
    for (size_t k = 0; k < share.places.size(); ++k) results[share.places[k]] = std::move(stepped[k]);
  } catch (const WorkerLost& error) {
    lose(*share.host, error.what());
  }
}

std::vector<StepResult> RemoteBatch::wait() {
  GATO_CHECK(busy_, "wait was called without start");
  std::vector<StepResult> results(stepping_.size());
  for (const Share& share : shares_) receive_share(share, results);
  busy_ = false;
  for (size_t i = 0; i < stepping_.size(); ++i) {
    Slot& slot = at(stepping_[i]);
    if (slot.state == State::kFailed) results[i] = failed_step(slot.failure);
    if (!results[i].done()) continue;
    slot.state = State::kIdle;
    finished_ += results[i].failure.empty() ? 1 : 0;
  }
  return results;
}

std::optional<Image> RemoteBatch::frame(int slot) {
  GATO_CHECK(!busy_, "frame between start and wait");
  static_cast<void>(at(slot));
  Host& host = host_of(slot);
  if (host.worker == nullptr) return std::nullopt;
  try {
    return host.worker->look(static_cast<uint32_t>(slot) - host.first);
  } catch (const WorkerLost& error) {
    lose(host, error.what());
    return std::nullopt;
  } catch (const EnvironmentError& error) {  // it cannot draw; the episode goes on
    if (!std::exchange(told_no_picture_, true)) log::warning("env", spec_.id, ": no picture: ", error.what());
    return std::nullopt;
  }
}

std::optional<std::string> RemoteBatch::reference_answer(int slot) const {
  GATO_CHECK(slot >= 0 && slot < size(), "slot ", slot, " of ", size());
  return std::nullopt;
}

StepValues RemoteBatch::act(int slot) {
  GATO_CHECK(!busy_, "the expert was asked between start and wait");
  GATO_CHECK(playing(slot), "slot ", slot, " has no episode going on: reset it first");
  if (at(slot).state == State::kPlaying) {
    Host& host = host_of(slot);
    try {
      const auto answer = host.worker->call<Actions>(Act{{static_cast<uint32_t>(slot) - host.first}});
      if (!answer.failures.empty()) {
        fail_slot(slot, cat("the expert failed: ", answer.failures.front().message));
      } else {
        std::vector<StepValues> actions;
        try {
          actions = unpack(spec_.action, answer.columns, 1);
        } catch (const DataError& error) {
          host.worker->give_up(error.what());
        }
        const std::string problem = problem_with(spec_.action, actions.front());
        if (problem.empty()) return std::move(actions.front());
        fail_slot(slot, cat("the expert failed: ", problem));
      }
    } catch (const WorkerLost& error) {
      lose(host, error.what());
    }
  }
  // Inside the bounds, which zeros need not be.
  StepValues nothing = blank_values(spec_.action);
  return clipped(spec_, std::move(nothing));
}

}  // namespace gato::env::remote

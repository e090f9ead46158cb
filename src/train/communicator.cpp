#include "gato/train/communicator.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "exchange_backend.h"
#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "stop_notice.h"

namespace gato::train {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMostGathered = int64_t{1} << 30;  // bytes

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
}

std::string seconds_text(std::chrono::milliseconds time) {
  return cat(format_fixed(static_cast<double>(time.count()) / 1000, time < std::chrono::seconds(10) ? 1 : 0), " s");
}

/// Of what is on the current stream of a device; nothing on the CPU.
std::optional<c10::Event> event_now(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  c10::Event event(device.type());
  event.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  return event;
}

}  // namespace

struct Communicator::State {
  Launch launch;
  BackendPointer gloo, nccl;
  std::chrono::milliseconds timeout{0};  // of an operation
  std::atomic<bool> broken{false};
  std::atomic<double> waited{0};
  mutable std::mutex mutex;  // of `observer` and `first_failure`
  std::shared_ptr<OperationObserver> observer;
  std::string first_failure;

  [[nodiscard]] std::shared_ptr<OperationObserver> listener() const {
    const std::lock_guard lock(mutex);
    return observer;
  }

  [[noreturn]] void fail(const std::string& operation, const std::string& cause) {
    std::unique_lock lock(mutex);
    if (!broken.exchange(true)) {
      first_failure = cat("the exchange '", operation, "' of rank ", launch.rank, " with the other ", launch.size - 1,
                          launch.size == 2 ? " process" : " processes", " failed: ", cause);
      const auto told = observer;
      lock.unlock();
      if (told) told->failed(operation, cause);
      lock.lock();
    }
    throw PeerError(first_failure);
  }

  /// Tells the observer that the caller waits for others while `wait` does, and how long that took. `wait` returns what
  /// went wrong, or throws it.
  template <class Wait>
  void observe(const std::string& operation, const Wait& wait) {
    const auto told = listener();
    if (told) told->began(operation);
    const profile::Scope scope("waiting for processes");
    const auto begin = Clock::now();
    std::string failure;
    try {
      failure = wait();
    } catch (const std::exception& error) {
      failure = cause_of(error);
    }
    waited = waited + std::chrono::duration<double>(Clock::now() - begin).count();
    if (told) told->ended(operation);
    if (!failure.empty()) fail(operation, failure);
  }

  void check_whole(std::string_view operation) {
    if (broken) fail(std::string(operation), "an earlier exchange failed");
  }

  /// Gloo for what is on the CPU, also where training is on a GPU.
  [[nodiscard]] c10d::Backend& backend_of(const at::Tensor& x) const {
    if (x.is_cpu()) return *gloo;
    GATO_CHECK(nccl.defined(), "a tensor on ", x.device().str(), " cannot be exchanged: the run's device is the CPU");
    return *nccl;
  }
};

struct Communicator::Work::State {
  std::shared_ptr<Communicator::State> owner;
  c10::intrusive_ptr<c10d::Work> work;
  std::vector<at::Tensor> tensors;  // alive while they are read and written
  std::string name;
  std::optional<c10::Event> before;  // on a device: what it had to do when the operation was put on its way
  bool host_waits = false;           // wait() is all: Gloo's works
  bool waited = false;
};

Communicator::Work::Work() = default;
Communicator::Work::Work(Work&&) noexcept = default;
Communicator::Work& Communicator::Work::operator=(Work&&) noexcept = default;
Communicator::Work::~Work() = default;

bool Communicator::Work::done() const {
  return !state_ || (state_->host_waits && state_->waited) || state_->work->isCompleted();
}

void Communicator::Work::wait() {
  if (!state_ || state_->waited) return;
  state_->waited = true;
  state_->owner->observe(state_->name, [&] {
    state_->work->wait();
    return std::string();
  });
  state_->tensors.clear();
}

void Communicator::Work::finish() {
  wait();
  if (!state_) return;
  const std::unique_ptr<State> state = std::move(state_);
  if (!state->host_waits) wait_for_device(*state);
}

/// Polls: a call that waits for the device cannot be told from one that hangs, nor given a limit.
void Communicator::Work::wait_for_device(State& state) {
  constexpr auto kOften = std::chrono::microseconds(20);
  while (state.before && !state.before->query()) std::this_thread::sleep_for(kOften);
  if (state.work->isCompleted() && !state.work->exception()) return;
  state.owner->observe(state.name, [&]() -> std::string {
    const auto deadline = Clock::now() + state.owner->timeout;
    while (!state.work->isCompleted()) {
      if (Clock::now() > deadline) return cat("not done by all within ", seconds_text(state.owner->timeout));
      std::this_thread::sleep_for(kOften);
    }
    if (const std::exception_ptr error = state.work->exception()) std::rethrow_exception(error);
    return "";
  });
}

Communicator::Communicator() : state_(std::make_shared<State>()) {}
Communicator::Communicator(std::shared_ptr<State> state) : state_(std::move(state)) {}
Communicator::~Communicator() = default;

std::shared_ptr<Communicator> Communicator::connect(const Launch& launch, at::Device device,
                                                    const CommunicatorOptions& options, StopNotice* notice) {
  GATO_CHECK(launch.size >= 1 && launch.rank >= 0 && launch.rank < launch.size, "rank ", launch.rank, " of ",
             launch.size);
  const auto timeout = milliseconds(options.timeout_seconds);
  if (launch.size == 1) return CommunicatorParts::over(launch, {}, {}, timeout);
  const auto patience = milliseconds(options.connect_seconds);
  const std::string address = own_address(launch, options.interface);
  const StorePointer store = open_store(launch, patience);
  if (notice != nullptr) notice->open(launch, std::make_shared<StorePointer>(store));
  wait_for_all(store, launch, patience);
  BackendPointer gloo = make_gloo(store, launch, address, timeout), nccl;
  if (device.is_cuda()) nccl = make_nccl(store, launch, device, timeout);
  return CommunicatorParts::over(launch, std::move(gloo), std::move(nccl), timeout);
}

std::shared_ptr<Communicator> CommunicatorParts::over(const Launch& launch, BackendPointer gloo, BackendPointer nccl,
                                                      std::chrono::milliseconds timeout) {
  auto state = std::make_shared<Communicator::State>();
  state->launch = launch;
  state->gloo = std::move(gloo);
  state->nccl = std::move(nccl);
  state->timeout = timeout;
  return std::shared_ptr<Communicator>(new Communicator(std::move(state)));
}

int64_t Communicator::rank() const { return state_->launch.rank; }
int64_t Communicator::size() const { return state_->launch.size; }
std::string Communicator::backend() const { return alone() ? "none" : state_->nccl.defined() ? "nccl" : "gloo"; }

template <class Start>
Communicator::Work Communicator::start(std::string_view name, std::vector<at::Tensor> tensors, const Start& begin) {
  for (const at::Tensor& x : tensors) GATO_CHECK(x.defined() && x.is_contiguous(), name, ": tensors must be dense");
  state_->check_whole(name);
  Work work;
  work.state_ = std::make_unique<Work::State>();
  work.state_->owner = state_;
  work.state_->name = name;
  try {
    work.state_->before = event_now(tensors.front().device());
    c10d::Backend& backend = state_->backend_of(tensors.front());
    work.state_->host_waits = backend.getBackendName() == "gloo";
    work.state_->work = begin(backend, tensors);
  } catch (const ContractError&) {
    throw;
  } catch (const std::exception& error) {
    state_->fail(std::string(name), cause_of(error));
  }
  work.state_->tensors = std::move(tensors);
  return work;
}

Communicator::Work Communicator::all_reduce(const at::Tensor& x, std::string_view name) {
  if (alone()) return {};
  return start(name, {x}, [](c10d::Backend& backend, std::vector<at::Tensor>& all) { return backend.allreduce(all); });
}

Communicator::Work Communicator::reduce_scatter(const at::Tensor& out, const at::Tensor& in, std::string_view name) {
  GATO_CHECK(in.numel() == out.numel() * size(), name, ": ", in.numel(), " elements are not ", size(), " parts of ",
             out.numel());
  if (alone()) {
    if (out.const_data_ptr() != in.const_data_ptr()) out.copy_(in);
    return {};
  }
  return start(name, {out, in}, [](c10d::Backend& backend, std::vector<at::Tensor>& all) {
    return backend._reduce_scatter_base(all[0], all[1]);
  });
}

Communicator::Work Communicator::all_gather(const at::Tensor& out, const at::Tensor& in, std::string_view name) {
  GATO_CHECK(out.numel() == in.numel() * size(), name, ": ", out.numel(), " elements are not ", size(), " parts of ",
             in.numel());
  if (alone()) {
    if (out.const_data_ptr() != in.const_data_ptr()) out.copy_(in);
    return {};
  }
  return start(name, {out, in}, [](c10d::Backend& backend, std::vector<at::Tensor>& all) {
    return backend._allgather_base(all[0], all[1]);
  });
}

Communicator::Work Communicator::broadcast(const at::Tensor& x, int64_t root, std::string_view name) {
  GATO_CHECK(root >= 0 && root < size(), name, ": there is no rank ", root, " of ", size());
  if (alone()) return {};
  return start(name, {x}, [&](c10d::Backend& backend, std::vector<at::Tensor>& all) {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return backend.broadcast(all, options);
  });
}

std::vector<std::string> Communicator::gather(const std::string& text, std::string_view name) {
  if (alone()) return {text};
  const at::Tensor own = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  const at::Tensor lengths = at::empty({size()}, at::kLong);
  all_gather(lengths, own, name).wait();
  const auto* length = lengths.const_data_ptr<int64_t>();
  const int64_t longest = *std::max_element(length, length + size());
  GATO_CHECK(longest >= 0 && longest <= kMostGathered / size(), name, ": a rank sends ", longest, " bytes");
  std::vector<std::string> texts(static_cast<size_t>(size()));
  if (longest == 0) return texts;
  const at::Tensor bytes = at::zeros({longest}, at::kByte), all = at::empty({size() * longest}, at::kByte);
  if (!text.empty()) std::memcpy(bytes.mutable_data_ptr<uint8_t>(), text.data(), text.size());
  all_gather(all, bytes, name).wait();
  const auto* data = reinterpret_cast<const char*>(all.const_data_ptr<uint8_t>());
  for (int64_t r = 0; r < size(); ++r) {
    texts[static_cast<size_t>(r)].assign(data + r * longest, static_cast<size_t>(length[r]));
  }
  return texts;
}

void Communicator::barrier(std::string_view name, double patience_seconds) {
  if (alone()) return;
  const auto timeout = std::max(state_->timeout, milliseconds(patience_seconds));
  start(name, {at::zeros({1}, at::kInt)}, [&](c10d::Backend& backend, std::vector<at::Tensor>& all) {
    c10d::AllreduceOptions options;
    options.timeout = timeout;
    return backend.allreduce(all, options);
  }).wait();
}

void Communicator::set_observer(std::shared_ptr<OperationObserver> observer) {
  const std::lock_guard lock(state_->mutex);
  state_->observer = std::move(observer);
}

double Communicator::seconds_waited() const { return state_->waited; }

}  // namespace gato::train

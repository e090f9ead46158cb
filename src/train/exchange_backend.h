#pragma once
#include <c10/core/Device.h>

#include <chrono>
#include <exception>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "gato/core/launch.h"
#include "gato/train/communicator.h"

/// How the processes of a run find each other, and the libraries that carry what they exchange.
namespace gato::train {

using BackendPointer = c10::intrusive_ptr<c10d::Backend>;
using StorePointer = c10::intrusive_ptr<c10d::Store>;

/// The text of an error of LibTorch or Gloo in one line, without the addresses of its call stack.
[[nodiscard]] std::string cause_of(const std::exception& error);

/// The store at the master's address, with the prefix of this attempt: rank 0 serves it unless the launcher does, or
/// `serve` is false since it does already. Throws PeerError where it does not answer within `patience`, ConfigError
/// where rank 0 cannot serve it.
[[nodiscard]] StorePointer open_store(const Launch& launch, std::chrono::milliseconds patience, bool serve = true);

/// Waits until every rank has come to `store`. Throws PeerError naming those that did not within `patience`.
void wait_for_all(const StorePointer& store, const Launch& launch, std::chrono::milliseconds patience);

/// This host's address towards the others: of `interface`, or the one by which the master is reached. Throws
/// ConfigError.
[[nodiscard]] std::string own_address(const Launch& launch, const std::string& interface);

/// Gloo between all ranks. `timeout` is of every operation.
[[nodiscard]] BackendPointer make_gloo(const StorePointer& store, const Launch& launch, const std::string& address,
                                       std::chrono::milliseconds timeout);

/// NCCL between all ranks' GPUs, from libgato_nccl.so beside the program. Throws DeviceError where it is not there.
[[nodiscard]] BackendPointer make_nccl(const StorePointer& store, const Launch& launch, at::Device device,
                                       std::chrono::milliseconds timeout);

/// A communicator of backends that are there; `nccl` may be null. `timeout` is of every operation.
struct CommunicatorParts {
  [[nodiscard]] static std::shared_ptr<Communicator> over(const Launch& launch, BackendPointer gloo,
                                                          BackendPointer nccl, std::chrono::milliseconds timeout);
};

/// What libgato_nccl.so gives out under the name kNcclEntry.
constexpr const char* kNcclEntry = "gato_make_nccl_backend";
using NcclEntry = void (*)(const StorePointer& store, int rank, int size, c10::DeviceIndex device, int64_t timeout_ms,
                           BackendPointer& backend);

}  // namespace gato::train

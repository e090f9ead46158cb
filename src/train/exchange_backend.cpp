#include "exchange_backend.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

// LibTorch has Gloo inside; Debian's headers (libgloo-dev) only declare what ProcessGroupGloo.hpp mentions.
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "gato/core/error.h"

namespace gato::train {
namespace {

constexpr const char* kNcclLibrary = "libgato_nccl.so";

std::string place_of(const Launch& launch) { return cat(launch.master_address, ":", launch.master_port); }

std::string seconds_text(std::chrono::milliseconds time) {
  return cat(format_fixed(static_cast<double>(time.count()) / 1000, 0), " s");
}

std::string arrival_key(int64_t rank) { return cat("here/", rank); }

/// "3, 5 and 7", the first twenty.
std::string list_ranks(const std::vector<int64_t>& ranks) {
  constexpr size_t kMost = 20;
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(kMost, ranks.size()); ++i) names.push_back(cat(ranks[i]));
  return join(names, ", ") + (ranks.size() > kMost ? cat(" and ", ranks.size() - kMost, " more") : "");
}

/// The NCCL half: as the environment says, beside the program (build tree), or in ../lib/gato (installed).
std::vector<std::filesystem::path> nccl_places() {
  if (const char* named = std::getenv("GATO_NCCL_LIBRARY"); named != nullptr && *named != '\0') return {named};
  std::error_code ignored;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  return {folder / kNcclLibrary, folder.parent_path() / "lib" / "gato" / kNcclLibrary};
}

NcclEntry load_nccl() {
  std::vector<std::string> places;
  for (const auto& place : nccl_places()) {
    places.push_back(place.string());
    if (!std::filesystem::exists(place)) continue;
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      throw DeviceError(cat(place.string(), " does not load: ", reason == nullptr ? "no reason given" : reason));
    }
    const auto entry = reinterpret_cast<NcclEntry>(dlsym(library, kNcclEntry));
    if (entry == nullptr) throw DeviceError(cat(place.string(), " has no ", kNcclEntry, ": it is of another version"));
    return entry;
  }
  throw DeviceError(cat("this build cannot exchange between GPUs (looked for ", join(places, ", "),
                        "): build with the preset `cuda`, name the library in GATO_NCCL_LIBRARY, or train with "
                        "train.device: cpu"));
}

}  // namespace

std::string cause_of(const std::exception& error) {
  const auto* libtorch = dynamic_cast<const c10::Error*>(&error);
  std::string text = libtorch != nullptr ? libtorch->what_without_backtrace() : error.what();
  text = text.substr(0, text.find("\nException raised from"));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? "no reason given" : text;
}

StorePointer open_store(const Launch& launch, std::chrono::milliseconds patience, bool serve) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.master_port);
  options.isServer = serve && launch.rank == 0 && !launch.agent_store;
  options.waitWorkers = false;  // wait_for_all() names those that are missing
  options.timeout = patience;
  try {
    StorePointer store = c10::make_intrusive<c10d::TCPStore>(launch.master_address, options);
    return c10::make_intrusive<c10d::PrefixStore>(launch.store_prefix(), std::move(store));
  } catch (const std::exception& error) {
    if (options.isServer) {
      throw ConfigError(cat("rank 0 cannot open its store at ", place_of(launch), ": ", cause_of(error),
                            "; another program may use the port: set MASTER_PORT to a free one"));
    }
    throw PeerError(cat("rank ", launch.rank, " of ", launch.size, " did not reach ",
                        launch.agent_store ? "the launcher's store" : "rank 0", " at ", place_of(launch), " within ",
                        seconds_text(patience), ": ", cause_of(error),
                        "; is rank 0 running, and do MASTER_ADDR and MASTER_PORT name its host and a port that no "
                        "firewall closes?"));
  }
}

void wait_for_all(const StorePointer& store, const Launch& launch, std::chrono::milliseconds patience) {
  std::vector<int64_t> missing;
  std::string cause;
  try {
    store->set(arrival_key(launch.rank), "yes");
    std::vector<std::string> keys;
    for (int64_t rank = 0; rank < launch.size; ++rank) keys.push_back(arrival_key(rank));
    store->wait(keys, patience);
    return;
  } catch (const std::exception& error) {
    cause = cause_of(error);
  }
  try {
    for (int64_t rank = 0; rank < launch.size; ++rank) {
      if (!store->check({arrival_key(rank)})) missing.push_back(rank);
    }
  } catch (const std::exception&) {
    missing.clear();
  }
  if (missing.empty()) {
    throw PeerError(
        cat("rank ", launch.rank, " lost the store at ", place_of(launch), " while it waited for the others: ", cause));
  }
  throw PeerError(cat("of ", launch.size, " processes rank", missing.size() == 1 ? " " : "s ", list_ranks(missing),
                      " did not come to ", place_of(launch), " within ", seconds_text(patience),
                      ": look at their logs, or raise comm.connect_seconds when they start later"));
}

BackendPointer make_gloo(const StorePointer& store, const Launch& launch, const std::string& address,
                         std::chrono::milliseconds timeout) {
  try {
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store),
                                                       static_cast<int>(launch.rank), static_cast<int>(launch.size),
                                                       options);
  } catch (const std::exception& error) {
    throw PeerError(cat("rank ", launch.rank, " of ", launch.size, " at ", address,
                        " cannot connect to the other processes, although all of them came to ", place_of(launch), ": ",
                        cause_of(error), "; a firewall may close the ports between the hosts, or set comm.interface"));
  }
}

BackendPointer make_nccl(const StorePointer& store, const Launch& launch, at::Device device,
                         std::chrono::milliseconds timeout) {
  const NcclEntry entry = load_nccl();
  BackendPointer backend;
  try {
    entry(c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(launch.rank),
          static_cast<int>(launch.size), device.index(), timeout.count(), backend);
  } catch (const std::exception& error) {
    throw PeerError(cat("rank ", launch.rank, " of ", launch.size, " cannot start NCCL on ", device.str(), ": ",
                        cause_of(error), "; NCCL_DEBUG=INFO tells more"));
  }
  return backend;
}

}  // namespace gato::train

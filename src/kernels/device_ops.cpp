#include "kernels/device_ops.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::kernels {
namespace {

constexpr const char* kLibrary = "libgato_cuda.so";
constexpr const char* kEntry = "gato_cuda_device_ops";
constexpr const char* kInterfaceEntry = "gato_cuda_device_interface";

std::array<const DeviceOps*, static_cast<size_t>(at::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES)>& table() {
  static std::array<const DeviceOps*, static_cast<size_t>(at::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES)> ops{};
  return ops;
}

/// Where the CUDA half may be: as the environment says, beside the program (build tree), or in ../lib/gato (installed).
std::vector<std::filesystem::path> library_places() {
  if (const char* named = std::getenv("GATO_CUDA_LIBRARY"); named != nullptr && *named != '\0') return {named};
  std::error_code ignored;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  return {folder / kLibrary, folder.parent_path() / "lib" / "gato" / kLibrary};
}

struct Loaded {
  const DeviceOps* ops = nullptr;
  std::string problem;  // why not
};

/// LibTorch's CUDA half registers itself when it is loaded, and cannot be taken out again.
Loaded load_library() {
  std::vector<std::string> places;
  for (const auto& place : library_places()) {
    places.push_back(place.string());
    if (!std::filesystem::exists(place)) continue;
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      return {nullptr, cat(place.string(), " does not load: ", reason == nullptr ? "no reason given" : reason)};
    }
    const auto entry = reinterpret_cast<DeviceOpsEntry>(dlsym(library, kEntry));
    const auto interface = reinterpret_cast<DeviceInterfaceEntry>(dlsym(library, kInterfaceEntry));
    if (entry == nullptr || interface == nullptr || std::string_view(interface()) != GATO_DEVICE_INTERFACE) {
      return {nullptr, cat(place.string(), " is of another version than this program: build both of one checkout")};
    }
    return {entry(), ""};
  }
  return {nullptr, cat("this build has no CUDA half (looked for ", join(places, ", "),
                       "): build with the preset `cuda`, or name it in GATO_CUDA_LIBRARY")};
}

const Loaded& cuda() {
  static const Loaded loaded = [] {
    Loaded result = load_library();
    if (result.ops != nullptr && result.ops->num_devices() == 0) {
      result = {nullptr,
                "no CUDA device was found: is there an NVIDIA GPU, is its driver loaded (nvidia-smi) and of CUDA 13 "
                "(580 or newer), and does CUDA_VISIBLE_DEVICES leave one?"};
    }
    if (result.ops != nullptr) {
      table()[static_cast<size_t>(at::kCUDA)] = result.ops;
      // The library has a copy of core for itself, hence a profile that nobody looks at: it is this one that counts.
      profile::set_range_hooks(result.ops->range_hooks());
    }
    return result;
  }();
  return loaded;
}

/// The N of "cuda:N"; -1 when `text` is something else.
int gpu_index(const std::string& text) {
  if (text == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (text.compare(0, kPrefix.size(), kPrefix) != 0) return -1;
  const std::string digits = text.substr(kPrefix.size());
  if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoi(digits);
}

const DeviceOps& loaded_cuda() {
  if (cuda().ops == nullptr) throw DeviceError(cuda().problem);
  return *cuda().ops;
}

}  // namespace

const DeviceOps* device_ops(at::Device device) { return table()[static_cast<size_t>(device.type())]; }

bool has_device_operations(at::Device device) { return device_ops(device) != nullptr; }

ScopedDeviceOps::ScopedDeviceOps(at::DeviceType type, const DeviceOps& ops)
    : type_(type), before_(table()[static_cast<size_t>(type)]) {
  table()[static_cast<size_t>(type)] = &ops;
}

ScopedDeviceOps::~ScopedDeviceOps() { table()[static_cast<size_t>(type_)] = before_; }

std::string why_no_gpu() { return cuda().problem; }

int num_gpus() { return cuda().ops == nullptr ? 0 : cuda().ops->num_devices(); }

at::Device open_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name == "auto") return cuda().ops == nullptr ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0);
  const int index = gpu_index(name);
  if (index < 0) throw ConfigError(cat("there is no device '", name, "'; known are auto, cpu, cuda and cuda:N"));
  const int count = loaded_cuda().num_devices();
  if (index >= count) {
    throw DeviceError(cat("device ", name, " was asked for, but there ", count == 1 ? "is one GPU" : "are ",
                          count == 1 ? "" : cat(count, " GPUs"), ", counted from cuda:0"));
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

GpuProperties gpu_properties(at::Device device) {
  if (!device.is_cuda()) throw DeviceError(cat(device.str(), " is no GPU"));
  return loaded_cuda().properties(device.index() < 0 ? 0 : device.index());
}

bool can_capture(at::Device device) { return device_ops(device) != nullptr; }

std::unique_ptr<CapturedWork> capture(at::Device device, std::function<void()> work, const CapturedWork* beside) {
  const DeviceOps* ops = device_ops(device);
  if (ops == nullptr) throw DeviceError(cat("work on ", device.str(), " cannot be captured: only a GPU's can"));
  return ops->capture(device, std::move(work), beside);
}

std::string kernels_identity() { return loaded_cuda().identity(); }

void synchronize(at::Device device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeStream(guard.getStream(device));
}

}  // namespace gato::kernels

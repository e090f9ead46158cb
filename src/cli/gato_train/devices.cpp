#include "devices.h"

#include <iostream>

#include "cli/program.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/device.h"

namespace gato::cli {
namespace {

std::string describe_gpu(const std::string& name, at::Device device) {
  const kernels::GpuProperties gpu = kernels::gpu_properties(device);
  return cat(name, ": ", gpu.name, ", ", format_bytes(static_cast<double>(gpu.memory_bytes)), ", compute capability ",
             gpu.capability / 10, ".", gpu.capability % 10, ", ", gpu.multiprocessors, " multiprocessors; own kernels ",
             kernels::kernels_are_proven(device) ? "are proven on it"
                                                 : "are not proven on it yet (tools/test --gpu does that)");
}

int list_devices(bool mark_proven) {
  std::cout << "cpu: " << thread_budget() << " threads\n";
  if (const std::string problem = kernels::why_no_gpu(); !problem.empty()) {
    std::cout << "no GPU: " << problem << "\n";
    if (!mark_proven) return kDone;
    log::error("cli", "there is no GPU whose kernels could be marked as proven");
    return kFailed;
  }
  for (int index = 0; index < kernels::num_gpus(); ++index) {
    const std::string name = cat("cuda:", index);
    const at::Device device = kernels::open_device(name);
    if (mark_proven) kernels::mark_kernels_as_proven(device);
    std::cout << describe_gpu(name, device) << "\n";
  }
  return kDone;
}

}  // namespace

std::function<int()> add_devices(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("devices", "List what train.device can be on this machine, and why there is no GPU");
  auto mark = std::make_shared<bool>(false);
  verb->add_flag(
      "--mark-proven", *mark,
      "Note in the user's cache that the tests of the GPU kernels have passed here (tools/test --gpu does it)");
  return [verb, mark] { return verb->parsed() ? list_devices(*mark) : -1; };
}

}  // namespace gato::cli

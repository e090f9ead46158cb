#pragma once
#include <gtest/gtest.h>

#include "cuda_emulation/emulated_device.h"

namespace gato::cuda_emulation {

/// A Device that fails the running test when it ends with faults nobody took. Tests that plant a fault look at it with
/// take_faults().
class TestDevice : public Device {
 public:
  using Device::Device;
  ~TestDevice() override {
    if (num_faults() == 0) return;
    ADD_FAILURE() << num_faults() << " faults on the emulated device" << list();
  }

  /// Fails the test now when there are faults, and forgets them.
  void expect_no_faults() {
    EXPECT_EQ(num_faults(), 0u) << list();
    take_faults();
  }

 private:
  [[nodiscard]] std::string list() const {
    std::string text;
    for (const Fault& fault : faults()) {
      if (text.size() > 4000) return text + "\n  ...";
      text += "\n  " + fault.message;
    }
    return text;
  }
};

}  // namespace gato::cuda_emulation

#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <span>
#include <vector>

namespace gato::model {

/// Arrays in one piece of memory, so that one copy takes all of them to a GPU: add() each, then allocate(), write, and
/// move() or copy_to().
class Staging {
 public:
  /// Room for an array of `count` elements; returns its number.
  size_t add(int64_t count, at::ScalarType type) {
    arrays_.push_back({bytes_, count, type});
    const auto size = count * static_cast<int64_t>(c10::elementSize(type));
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return arrays_.size() - 1;
  }

  [[nodiscard]] int64_t bytes() const { return bytes_; }                              ///< Of all arrays.
  [[nodiscard]] int64_t offset(size_t array) const { return arrays_[array].offset; }  ///< In bytes.

  /// Memory for what was added, pinned where it goes to another device. What is there already is left alone: LibTorch
  /// keeps pinned memory until its copies are done.
  void allocate(at::Device device) {
    device_ = device;
    memory_ = at::empty({bytes_}, at::TensorOptions().dtype(at::kByte).pinned_memory(!device.is_cpu()));
  }

  template <class T>
  [[nodiscard]] std::span<T> host(size_t array) const {
    const Array& a = arrays_[array];
    const auto size = a.count * static_cast<int64_t>(c10::elementSize(a.type));
    return {reinterpret_cast<T*>(memory_.mutable_data_ptr<uint8_t>() + a.offset),
            static_cast<size_t>(size) / sizeof(T)};
  }

  /// Afterwards array() gives tensors on the device.
  void move() { memory_ = memory_.to(device_, at::kByte, /*non_blocking=*/true); }

  /// The first `bytes` to memory of bytes() on the device.
  void copy_to(const at::Tensor& memory, int64_t bytes) const {
    memory.narrow(0, 0, bytes).copy_(memory_.narrow(0, 0, bytes), /*non_blocking=*/true);
  }

  [[nodiscard]] at::Tensor array(size_t array) const { return array_of(memory_, array); }
  /// The array inside other memory of bytes().
  [[nodiscard]] at::Tensor array_of(const at::Tensor& memory, size_t array) const {
    const Array& a = arrays_[array];
    const auto size = a.count * static_cast<int64_t>(c10::elementSize(a.type));
    return memory.narrow(0, a.offset, size).view(a.type);
  }

 private:
  static constexpr int64_t kAlignment = 64;
  struct Array {
    int64_t offset, count;
    at::ScalarType type;
  };
  std::vector<Array> arrays_;
  int64_t bytes_ = 0;
  at::Device device_ = at::kCPU;
  at::Tensor memory_;
};

}  // namespace gato::model

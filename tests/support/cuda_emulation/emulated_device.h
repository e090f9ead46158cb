#pragma once
// A CUDA device on the CPU, as tests see it. Link gato_cuda_emulation, compile kernels by gato_emulated_kernels()
// (tests/cuda/CMakeLists.txt), and in a test:
//
//   TestDevice device;                                           // test_device.h; fails the test on any fault
//   auto x = device.input<float>("x", values);                   // kernels may read it
//   auto y = device.buffer<float>("y", n);                       // and must write this before they read it
//   scale({.x = x.data(), .y = y.data(), .count = n}, nullptr);  // host interface of a kernel: launches run at once
//   EXPECT_EQ(y.download(), expected);
//   EXPECT_EQ(device.counters().conflict_factor(), 1.0);
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cuda_emulation/counters.h"
#include "cuda_emulation/fault.h"

namespace gato::cuda_emulation {

struct Options {
  bool checks = true;               ///< Look for faults. Without, wrong kernels crash or compute nonsense.
  bool counters = true;             ///< Count memory requests.
  uint32_t schedule_seed = 0;       ///< 0: blocks, warps and lanes in order. Else shuffled by this seed.
  int host_threads = 1;             ///< Blocks that run at the same time; >= 1.
  size_t shared_limit = 227 << 10;  ///< Shared memory a block may have, static and dynamic, in bytes; <= 227 KiB.
  int num_multiprocessors = 108;    ///< What num_multiprocessors() tells kernels' hosts.
};

struct Allocation;    // global_memory.h
class DeviceMachine;  // machine.h

/// Global memory of a device: `size` elements between red zones. Move-only; its end frees it, after which kernels that
/// touch it are reported. Host code must go through upload and download, for the emulator to know what is written. What
/// is written and by whom is known per element, in larger ones per 4 bytes: kernels whose threads share an element of T
/// (a workspace used for narrower types) are reported as racing, so give such a buffer the narrowest type.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer(std::shared_ptr<Allocation> allocation, T* data, size_t size)
      : allocation_(std::move(allocation)), data_(data), size_(size) {}
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  [[nodiscard]] T* data() const { return data_; }  ///< The device's pointer, 256-byte aligned. Not for host code.
  [[nodiscard]] size_t size() const { return size_; }
  void upload(std::span<const T> values);  ///< Exactly size() values.
  void fill(T value);
  void fill_unwritten();  ///< Back to the state of a new buffer: poison that kernels may not read.
  [[nodiscard]] std::vector<T> download() const;
  /// First element of which a byte was never written (by upload or kernel), or size() when all were.
  [[nodiscard]] size_t first_unwritten() const;

 private:
  std::shared_ptr<Allocation> allocation_;
  T* data_;
  size_t size_;
};

/// The device that launch() runs kernels on while it lives (the newest, if there are several). Used from one host
/// thread.
class Device {
 public:
  explicit Device(Options options = {});
  virtual ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// Memory that is not written yet (filled with 0xff bytes: NaN).
  template <class T>
  [[nodiscard]] Buffer<T> buffer(std::string name, size_t size);
  /// Memory with values in it.
  template <class T>
  [[nodiscard]] Buffer<T> buffer(std::string name, const std::vector<T>& values);
  /// Memory with values in it that kernels must not write.
  template <class T>
  [[nodiscard]] Buffer<T> input(std::string name, const std::vector<T>& values);

  /// What went wrong so far: the first 100. Some faults end their launch, after which later launches do nothing (as on
  /// a device) until take_faults().
  [[nodiscard]] const std::vector<Fault>& faults() const;
  [[nodiscard]] uint64_t num_faults() const;  ///< Of all, also past the first 100.
  std::vector<Fault> take_faults();           ///< Returns and forgets them, and lets launches run again.

  [[nodiscard]] Counters counters() const;                         ///< Of all launches since the last reset.
  [[nodiscard]] Counters counters(std::string_view kernel) const;  ///< Of those named so (Launch::name).
  [[nodiscard]] uint64_t num_launches(std::string_view kernel) const;
  [[nodiscard]] std::vector<SiteCounters> site_counters() const;  ///< By place, most requests first.
  [[nodiscard]] std::string describe_sites() const;               ///< site_counters() as a table.
  void reset_counters();

  [[nodiscard]] const Options& options() const;
  void set_options(Options options);  ///< For the launches that follow. Throws ContractError on values out of range.

 private:
  friend DeviceMachine;
  std::shared_ptr<Allocation> allocate(std::string name, size_t bytes, size_t element_bytes, bool read_only);
  std::unique_ptr<DeviceMachine> machine_;
};

// ------------------------------------------------------------------------------------------ implementation

namespace detail {
[[nodiscard]] std::byte* allocation_data(const Allocation& allocation);
void allocation_written(Allocation& allocation, bool written);  // all of it
[[nodiscard]] size_t allocation_first_unwritten(const Allocation& allocation);
void allocation_free(Allocation& allocation);
void check_upload(const Allocation& allocation, size_t expected, size_t actual);
}  // namespace detail

template <class T>
Buffer<T>& Buffer<T>::operator=(Buffer&& other) noexcept {
  std::swap(allocation_, other.allocation_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

template <class T>
Buffer<T>::~Buffer() {
  if (allocation_ != nullptr) detail::allocation_free(*allocation_);
}

template <class T>
void Buffer<T>::upload(std::span<const T> values) {
  detail::check_upload(*allocation_, size_, values.size());
  if (!values.empty()) std::memcpy(data_, values.data(), values.size_bytes());
  detail::allocation_written(*allocation_, true);
}

template <class T>
void Buffer<T>::fill(T value) {
  for (size_t i = 0; i < size_; ++i) std::memcpy(static_cast<void*>(data_ + i), &value, sizeof(T));
  detail::allocation_written(*allocation_, true);
}

template <class T>
void Buffer<T>::fill_unwritten() {
  if (size_ > 0) std::memset(static_cast<void*>(data_), 0xff, size_ * sizeof(T));
  detail::allocation_written(*allocation_, false);
}

template <class T>
std::vector<T> Buffer<T>::download() const {
  std::vector<T> values(size_);
  if (size_ > 0) std::memcpy(static_cast<void*>(values.data()), data_, size_ * sizeof(T));
  return values;
}

template <class T>
size_t Buffer<T>::first_unwritten() const {
  return detail::allocation_first_unwritten(*allocation_) / sizeof(T);
}

template <class T>
Buffer<T> Device::buffer(std::string name, size_t size) {
  auto allocation = allocate(std::move(name), size * sizeof(T), sizeof(T), false);
  T* data = reinterpret_cast<T*>(detail::allocation_data(*allocation));
  return Buffer<T>(std::move(allocation), data, size);
}

template <class T>
Buffer<T> Device::buffer(std::string name, const std::vector<T>& values) {
  Buffer<T> made = buffer<T>(std::move(name), values.size());
  made.upload(values);
  return made;
}

template <class T>
Buffer<T> Device::input(std::string name, const std::vector<T>& values) {
  auto allocation = allocate(std::move(name), values.size() * sizeof(T), sizeof(T), true);
  T* data = reinterpret_cast<T*>(detail::allocation_data(*allocation));
  Buffer<T> made(std::move(allocation), data, values.size());
  made.upload(values);
  return made;
}

}  // namespace gato::cuda_emulation

#include "kernels/column_sums.h"

#include <vector>

#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/parallel.h"

namespace gato::kernels {

void add_column_sums(const at::Tensor& x, const at::Tensor& totals) {
  if (const DeviceOps* ops = device_ops(x)) return ops->add_column_sums(x, totals);
  const int64_t width = x.size(1);
  const Chunks chunks = make_chunks(x.size(0), 64, 16);
  std::vector<float> partial(static_cast<size_t>(chunks.number * width), 0.0f);
  with_type_of(x, [&]<class T>(T) {
    const T* from = data<T>(x);
    for_chunks(chunks, [&](int64_t chunk) {
      cpu::add_column_sums(from, width, partial.data() + chunk * width, chunks.begin(chunk), chunks.end(chunk));
    });
  });
  cpu::add_column_sums(partial.data(), width, totals.mutable_data_ptr<float>(), 0, chunks.number);
}

}  // namespace gato::kernels

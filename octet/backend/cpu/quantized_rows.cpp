// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/quantized_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "octet/backend/cpu/code_writer.h"
#include "octet/quant/quantize.h"

namespace octet::cpu {

QuantizedRows::QuantizedRows(const Int8Kernels& kernels_of_rows, int64_t rows, int64_t depth_of_rows, int64_t group,
                             bool minima, Layout& layout)
    : kernels(kernels_of_rows),
      depth(depth_of_rows),
      stride(kernels.row_bytes(depth)),
      step(kernels.sum_block != 0 ? kernels.sum_block
           : group != 0           ? group
                                  : depth),
      sum_count((depth + step - 1) / step),
      group_count(!minima      ? 0
                  : group == 0 ? 1
                               : (depth + group - 1) / group),
      codes(layout.add<std::byte>(rows * stride)),
      sums(layout.add<int32_t>(rows * sum_count)),
      scales(layout.add<float>(rows)),
      group_sums(layout.add<float>(rows * group_count)) {}

bool QuantizedRows::quantize(const KernelTable& table, ActivationMode mode, const ActivationScale& input,
                             const float* x, std::byte* memory, int64_t place) const {
  std::byte* const to = codes.in(memory) + place * stride;
  int32_t* const code_sums = sums.in(memory) + place * sum_count;
  float& scale = scales.in(memory)[place];
  const float absmax = std::bit_cast<float>(table.absmax_bits(x, depth));
  if (!std::isfinite(absmax)) {
    std::fill_n(to, stride, std::byte{0});
    std::fill_n(code_sums, sum_count, 0);
    scale = std::numeric_limits<float>::quiet_NaN();
    return false;
  }
  scale = is_static(mode) ? input.scale : int8_scale(absmax);
  QuantizeRow row = is_static(mode) ? static_row(mode, input) : QuantizeRow{.inverse = 1.0f / scale};
  row.x = x;
  row.depth = depth;
  row.codes = to;
  row.step = step;
  row.sums = code_sums;
  kernels.quantize(row);
  return true;
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/code_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace octet::cpu {

QuantizeRow static_row(ActivationMode mode, const ActivationScale& scale) {
  QuantizeRow row;
  row.inverse = 1.0f / scale.scale;
  const CodeRange codes = code_range(mode, scale);
  row.low = static_cast<float>(codes.lowest);
  row.high = static_cast<float>(codes.highest);
  if (mode == ActivationMode::kStaticPerTensorZeroPoint) row.offset = scale.zero_point - kUint8Offset;
  return row;
}

CodeWriter::CodeWriter(const KernelTable& table, const Activation& y, int64_t rows, int64_t cols, Layout& worker)
    : table_(table),
      y_(y),
      stride_(y.codes ? cols : y.stride),
      floats_(worker.add<float>(y.codes ? rows * cols : 0)),
      codes_(worker.add<int8_t>(y.codes ? plain_row_bytes(cols) : 0)),
      sums_(worker.add<int32_t>(y.codes ? cols : 0)) {
  if (!y.codes) return;
  row_ = static_row(y.codes->mode, y.codes->scale);
}

CodeWriter::Floats CodeWriter::floats(int64_t row, int64_t col, std::byte* memory) const {
  return {y_.codes ? floats_.in(memory) : data(y_) + row * y_.stride + col, stride_};
}

void CodeWriter::write(int64_t row, int64_t rows, int64_t col, int64_t cols, std::byte* memory) {
  if (!y_.codes) return;
  for (int64_t r = 0; r < rows; ++r) {
    const float* const x = floats_.in(memory) + r * stride_;
    auto* const out = reinterpret_cast<int8_t*>(y_.memory.address()) + (row + r) * y_.stride + col;
    if (!std::isfinite(std::bit_cast<float>(table_.absmax_bits(x, cols)))) {
      lowest_.add(row + r);
      std::fill_n(out, cols, int8_t{0});
      continue;
    }
    // Kernels pad rows, which here would be the neighbour's columns.
    int8_t* const codes = cols % kCodePadding == 0 ? out : codes_.in(memory);
    QuantizeRow by = row_;
    by.x = x;
    by.depth = cols;
    by.codes = codes;
    by.step = table_.w4a8.sum_block != 0 ? table_.w4a8.sum_block : cols;
    by.sums = sums_.in(memory);
    table_.w4a8.quantize(by);
    if (codes != out) std::copy_n(codes, cols, out);
  }
}

}  // namespace octet::cpu

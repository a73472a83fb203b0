// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/backend/cpu/code_writer.h"
#include "octet/base/parallel.h"

namespace octet::cpu {

Faults gated(const KernelTable& table, Workspace& workspace, const GatedOp& op) {
  const int64_t rows = op.y.rows, cols = op.y.cols;
  check_floats_or_codes(op.y, rows, cols, "gated: y");
  check_shape(op.x, rows, checked_mul(2, cols), "gated: x");
  const int64_t block = std::min(rows_per_task(op.x.cols), rows), blocks = rows == 0 ? 0 : (rows + block - 1) / block;
  Layout shared, worker;
  CodeWriter writer(table, op.y, block, cols, worker);
  workspace.reserve(shared, worker);
  parallel_for(static_cast<int>(std::min<int64_t>(blocks, workspace.threads())), blocks, [&](int64_t index, int by) {
    std::byte* const memory = workspace.worker(by);
    const int64_t first = index * block, count = std::min(block, rows - first);
    const CodeWriter::Floats y = writer.floats(first, 0, memory);
    table.gated({data(op.x) + first * op.x.stride, op.x.stride, count, cols, op.nonlinearity, y.data, y.stride});
    writer.write(first, count, 0, cols, memory);
  });
  return {.output = writer.fault()};
}

}  // namespace octet::cpu

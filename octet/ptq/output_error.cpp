// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/output_error.h"

#include <algorithm>
#include <vector>

#include "octet/base/parallel.h"
#include "octet/ptq/double_products.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// Rows of a task: as many as make a strip of H worth its way from memory.
constexpr int64_t kTaskRows = 32;

}  // namespace

void quadratic_forms(std::span<const double> rows, int64_t count, std::span<const double> hessian,
                     std::span<double> sums) {
  constexpr int64_t kBlock = 96;
  const int64_t inputs = std::ssize(rows) / std::max<int64_t>(1, count);
  std::fill_n(sums.begin(), count, 0.0);
  std::vector<double> products(static_cast<size_t>(count * kBlock));
  // Blocks of columns: what is above H's diagonal counts twice.
  for (int64_t first = 0; first < inputs; first += kBlock) {
    const int64_t width = std::min(kBlock, inputs - first);
    DoubleProduct product{.rows = count,
                          .cols = width,
                          .depth = first,
                          .a = rows.data(),
                          .a_row = inputs,
                          .b = hessian.data() + first,
                          .b_depth = inputs,
                          .c = products.data(),
                          .c_row = width};
    std::ranges::fill(products, 0.0);
    add_product(product);
    for (double& value : products) value *= 2;
    product.depth = width;
    product.a += first;
    product.b += first * inputs;
    add_product(product);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t c = 0; c < width; ++c) sums[r] += products[r * width + c] * rows[r * inputs + first + c];
    }
  }
}

double trace_of_quadratic_form(int64_t rows, int64_t inputs, std::span<const double> hessian, int threads,
                               const std::function<void(int64_t first, std::span<double> rows)>& fill) {
  std::vector<double> sums(static_cast<size_t>(rows));
  parallel_for(threads, (rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    const int64_t first = task * kTaskRows, count = std::min(kTaskRows, rows - first);
    std::vector<double> values(static_cast<size_t>(count * inputs));
    fill(first, values);
    quadratic_forms(values, count, hessian, std::span(sums).subspan(first, count));
  });
  double trace = 0;
  for (const double sum : sums) trace += sum;
  return std::max(0.0, trace);
}

double output_error(ConstTensorView weight, const QTensor& quantized, const InputStatistics& statistics, int threads) {
  const std::span<const float> values = weight.as<float>();
  const std::span<const int8_t> codes = quantized.codes.as<int8_t>();
  const int64_t rows = quantized.rows(), cols = quantized.cols();
  const std::vector<int32_t> group_of = group_of_columns(quantized);
  const double lost = trace_of_quadratic_form(
      rows, cols, statistics.hessian(), threads, [&](int64_t first, std::span<double> difference) {
        for (int64_t i = 0; i < std::ssize(difference); ++i) {
          const int64_t at = first * cols + i, row = at / cols, col = at % cols;
          difference[i] = values[at] - decode(codes[at], group_grid(quantized, row, group_of[col]));
        }
      });
  if (lost == 0) return 0;
  return lost /
         trace_of_quadratic_form(rows, cols, statistics.hessian(), threads, [&](int64_t first, std::span<double> all) {
           std::copy_n(values.begin() + first * cols, all.size(), all.begin());
         });
}

}  // namespace octet

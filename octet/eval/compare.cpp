// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/compare.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/eval/metrics.h"

namespace octet {
namespace {

constexpr int64_t kTokensPerBatch = 1024;  // small enough that masked-LM logits, 30,522 wide, stay at 125 MB
constexpr int64_t kTimedRuns = 3;

struct Sums {
  double squared_difference = 0, squared_reference = 0, cosine = 0;
};

void add_rows(const Tensor& a, const Tensor& b, OutputError& error, Sums& sums) {
  if (a.shape() != b.shape()) {
    fail<ShapeError>("the models' outputs have the shapes {} and {}; they cannot be compared", to_string(a.shape()),
                     to_string(b.shape()));
  }
  const auto cols = static_cast<size_t>(a.shape()[1]);
  for (int64_t r = 0; r < a.shape()[0]; ++r) {
    const auto row_a = a.as<float>().subspan(static_cast<size_t>(r) * cols, cols),
               row_b = b.as<float>().subspan(static_cast<size_t>(r) * cols, cols);
    const double similarity = cosine(row_a, row_b);
    sums.cosine += similarity;
    error.cosine_min = std::min(error.cosine_min, similarity);
    for (size_t c = 0; c < cols; ++c) {
      const double difference = double{row_a[c]} - double{row_b[c]};
      sums.squared_difference += difference * difference;
      sums.squared_reference += double{row_a[c]} * double{row_a[c]};
    }
  }
  error.rows += a.shape()[0];
  error.max_abs_difference = std::max(error.max_abs_difference, max_abs_difference(a.as<float>(), b.as<float>()));
}

}  // namespace

Comparison compare_outputs(Session& reference, Session& other, const Tokenizer& tokenizer,
                           std::span<const std::string> lines, const std::function<void(int64_t done)>& advance) {
  const int64_t longest = std::min(reference.model().info().max_positions, other.model().info().max_positions);
  Comparison comparison;
  comparison.error.cosine_min = 1;
  Sums sums;
  for (size_t first = 0, last = 0; first < lines.size(); first = last) {
    TokenBatch batch;
    for (; last < lines.size() && batch.tokens() < kTokensPerBatch; ++last) {
      const Encoding encoding = tokenizer.encode(lines[last], {.truncation = Truncation{.max_length = longest}});
      comparison.error.truncated += encoding.dropped > 0 ? 1 : 0;
      batch.add(encoding.ids, encoding.type_ids);
    }
    add_rows(reference.run(batch), other.run(batch), comparison.error, sums);
    comparison.error.tokens += batch.tokens();
    double reference_ms = INFINITY, other_ms = INFINITY;
    for (int64_t i = 0; i < kTimedRuns; ++i) {
      reference_ms = std::min(reference_ms, time_forward(reference, batch, 0, 1).min_ms);
      other_ms = std::min(other_ms, time_forward(other, batch, 0, 1).min_ms);
    }
    comparison.reference_ms += reference_ms;
    comparison.other_ms += other_ms;
    if (advance) advance(static_cast<int64_t>(last - first));
  }
  if (comparison.error.rows == 0) fail("no text to compare on");
  if (sums.squared_reference == 0) fail<NumericError>("the reference's outputs are all zero");
  comparison.error.cosine_mean = sums.cosine / static_cast<double>(comparison.error.rows);
  comparison.error.relative_error = std::sqrt(sums.squared_difference / sums.squared_reference);
  return comparison;
}

}  // namespace octet

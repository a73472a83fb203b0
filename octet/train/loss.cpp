// SPDX-License-Identifier: Apache-2.0
#include "octet/train/loss.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <span>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/log.h"

namespace octet {
namespace {

// Of rows that have a label.
template <class Run>
double sum_of_rows(Context& context, std::span<const int32_t> labels, const Run& run) {
  const Workspace::Scope scope(context.workspace);
  const DeviceSpan on_device = context.workspace.upload(labels);
  const Activation losses = context.workspace.take_matrix(1, std::ssize(labels));
  run(on_device, losses.memory);
  std::vector<float> host(labels.size());
  context.backend.download(losses, host);
  double sum = 0;
  for (size_t i = 0; i < host.size(); ++i) {
    if (labels[i] >= 0) sum += host[i];
  }
  return sum;
}

double apply_to_classes(Context& context, std::span<const int32_t> labels, float factor, const Activation& output) {
  if (std::ssize(labels) != output.rows)
    fail<ShapeError>("{} labels for {} rows of logits", labels.size(), output.rows);
  if (const auto wrong = std::ranges::find_if(labels, [&](int32_t label) { return label >= output.cols; });
      wrong != labels.end()) {
    fail("a label is {}; the model's output has the classes 0 to {}", *wrong, output.cols - 1);
  }
  return sum_of_rows(context, labels, [&](DeviceSpan on_device, DeviceSpan losses) {
    context.backend.cross_entropy({.x = output, .labels = on_device, .factor = factor, .losses = losses, .dx = output});
  });
}

// The few numbers of the others are worked on here, in double.
template <class Apply>
double apply_on_host(Context& context, const Activation& output, const Apply& apply) {
  std::vector<float> values(static_cast<size_t>(output.rows * output.cols));
  context.backend.download(output, values);
  const double sum = apply(values);
  context.backend.upload(std::as_bytes(std::span(values)), output.memory);
  return sum;
}

double apply_to_grades(std::span<const float> grades, float factor, std::vector<float>& values) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = double{values[i]} - double{grades[i]};
    sum += difference * difference;
    values[i] = static_cast<float>(2 * difference * factor);
  }
  return sum;
}

// exp((x - largest) / T) of one column of a sequence's rows, as shares of their sum, and its logarithm.
struct Shares {
  std::vector<double> share;
  double log_sum = 0;
};

Shares shares_of(std::span<const float> values, int64_t rows, int column, double temperature) {
  Shares out;
  double largest = -std::numeric_limits<double>::infinity(), total = 0;
  for (int64_t row = 0; row < rows; ++row)
    largest = std::max(largest, double{values[static_cast<size_t>(2 * row + column)]});
  for (int64_t row = 0; row < rows; ++row) {
    out.share.push_back(
        exp_of_nonpositive((double{values[static_cast<size_t>(2 * row + column)]} - largest) / temperature));
    total += out.share.back();
  }
  for (double& share : out.share) share /= total;
  out.log_sum = log_of_positive(total) + largest / temperature;
  return out;
}

// Cross-entropy over one column of a sequence's rows.
double apply_to_column(std::span<float> values, int64_t rows, int column, int32_t label, double factor) {
  const Shares shares = shares_of(values, rows, column, 1);
  const auto at = [&](int64_t row) -> float& { return values[static_cast<size_t>(2 * row + column)]; };
  const double loss = shares.log_sum - at(label);
  for (int64_t row = 0; row < rows; ++row)
    at(row) = static_cast<float>((shares.share[static_cast<size_t>(row)] - (row == label ? 1 : 0)) * factor);
  return loss;
}

double apply_to_spans(const LabelledBatch& batch, float factor, std::vector<float>& values) {
  double sum = 0;
  for (size_t b = 0; b < batch.answers.size(); ++b) {
    const int64_t first = batch.tokens.offsets[b], rows = batch.tokens.offsets[b + 1] - first;
    const auto [start, end] = batch.answers[b];
    if (start < 0 || end < 0 || start >= rows || end >= rows)
      fail("an answer spans the tokens {} to {} of {}", start, end, rows);
    const std::span<float> part =
        std::span(values).subspan(static_cast<size_t>(2 * first), static_cast<size_t>(2 * rows));
    sum +=
        0.5 * (apply_to_column(part, rows, 0, start, 0.5 * factor) + apply_to_column(part, rows, 1, end, 0.5 * factor));
  }
  return sum;
}

// As apply_to_spans, half of each end.
double distill_spans(const LabelledBatch& batch, double temperature, double factor, std::span<const float> teacher,
                     std::vector<float>& values) {
  double sum = 0;
  for (size_t b = 0; b < batch.answers.size(); ++b) {
    const size_t first = 2 * static_cast<size_t>(batch.tokens.offsets[b]);
    const int64_t rows = batch.tokens.offsets[b + 1] - batch.tokens.offsets[b];
    const auto from = teacher.subspan(first, static_cast<size_t>(2 * rows));
    const auto own = std::span(values).subspan(first, static_cast<size_t>(2 * rows));
    for (const int column : {0, 1}) {
      const Shares q = shares_of(from, rows, column, temperature), p = shares_of(own, rows, column, temperature);
      double divergence = p.log_sum - q.log_sum;
      for (int64_t row = 0; row < rows; ++row) {
        const auto at = static_cast<size_t>(2 * row + column), place = static_cast<size_t>(row);
        divergence += q.share[place] * (double{from[at]} - double{own[at]}) / temperature;
      }
      for (int64_t row = 0; row < rows; ++row) {
        const auto place = static_cast<size_t>(row);
        own[static_cast<size_t>(2 * row + column)] =
            static_cast<float>(0.5 * factor * temperature * (p.share[place] - q.share[place]));
      }
      sum += 0.5 * temperature * temperature * divergence;
    }
  }
  return sum;
}

}  // namespace

int64_t LabelledBatch::terms(LossKind kind) const noexcept {
  switch (kind) {
    case LossKind::kClasses:
      return std::ranges::count_if(labels, [](int32_t label) { return label >= 0; });
    case LossKind::kGrades:
      return std::ssize(grades);
    case LossKind::kSpan:
      return std::ssize(answers);
  }
  return 0;
}

void LabelledBatch::leave_out_unlabelled() {
  if (std::ssize(labels) != tokens.tokens()) return;
  const auto labelled = [](int32_t label) { return label >= 0; };
  const auto count = std::ranges::count_if(labels, labelled);
  if (count == 0 || 2 * count > std::ssize(labels)) return;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labelled(labels[i])) rows.push_back(static_cast<int32_t>(i));
  }
  std::erase_if(labels, std::not_fn(labelled));
}

double apply_loss(Context& context, LossKind kind, const LabelledBatch& batch, float factor, const Activation& output) {
  switch (kind) {
    case LossKind::kClasses:
      return apply_to_classes(context, batch.labels, factor, output);
    case LossKind::kGrades:
      if (output.cols != 1 || output.rows != std::ssize(batch.grades))
        fail<ShapeError>("grades need one number a text; the model gives {}", output.cols);
      return apply_on_host(context, output,
                           [&](std::vector<float>& v) { return apply_to_grades(batch.grades, factor, v); });
    case LossKind::kSpan:
      if (output.cols != 2) fail<ShapeError>("answers need two numbers a token; the model gives {}", output.cols);
      return apply_on_host(context, output, [&](std::vector<float>& v) { return apply_to_spans(batch, factor, v); });
  }
  return 0;
}

double distill(Context& context, LossKind kind, const LabelledBatch& batch, float temperature, float factor,
               const Activation& teacher, const Activation& output, const Activation& d) {
  if (kind == LossKind::kClasses) {
    return sum_of_rows(context, batch.labels, [&](DeviceSpan labels, DeviceSpan losses) {
      context.backend.distill({.x = output,
                               .teacher = teacher,
                               .labels = labels,
                               .temperature = temperature,
                               .factor = factor,
                               .losses = losses,
                               .dx = d});
    });
  }
  std::vector<float> from(static_cast<size_t>(teacher.rows * teacher.cols));
  context.backend.download(teacher, from);
  context.backend.copy(output.memory, d.memory);
  return apply_on_host(context, d, [&](std::vector<float>& values) {
    return kind == LossKind::kGrades ? apply_to_grades(from, factor, values)
                                     : distill_spans(batch, temperature, factor, from, values);
  });
}

}  // namespace octet

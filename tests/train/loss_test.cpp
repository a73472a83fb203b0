// SPDX-License-Identifier: Apache-2.0
#include "octet/train/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"

namespace octet {
namespace {

TEST(LabelledBatch, OutputsAreOfTokensThatHaveALabel) {
  LabelledBatch batch;
  batch.tokens.add(std::vector<int32_t>{1, 2, 3});
  batch.tokens.add(std::vector<int32_t>{4, 5});
  const std::vector<int32_t> few = {-1, 7, -1, -1, 9}, many = {1, 7, -1, -1, 9}, none(5, -1);
  batch.labels = few;
  batch.leave_out_unlabelled();
  EXPECT_THAT(batch.rows, testing::ElementsAre(1, 4));
  EXPECT_THAT(batch.labels, testing::ElementsAre(7, 9));
  EXPECT_EQ(batch.terms(LossKind::kClasses), 2);
  for (const std::vector<int32_t>& labels : {many, none, std::vector<int32_t>{3, -1}}) {
    batch.rows.clear();
    batch.labels = labels;
    batch.leave_out_unlabelled();
    EXPECT_TRUE(batch.rows.empty());
    EXPECT_EQ(batch.labels, labels);
  }
}

// Two sequences of 3 and 2 tokens, two numbers each; as grades, five texts.
LabelledBatch batch_of(LossKind kind) {
  LabelledBatch batch;
  if (kind == LossKind::kGrades) {
    batch.grades = {0.5f, -1, 2, 0, 4};
    return batch;
  }
  batch.tokens.add(std::vector<int32_t>{1, 2, 3});
  batch.tokens.add(std::vector<int32_t>{4, 5});
  batch.answers = {{1, 2}, {0, 0}};
  return batch;
}

struct LossAndGradient {
  double loss;
  std::vector<float> gradient;
};

// Of `apply(context, output, d)`, which leaves the gradient in d.
template <class Apply>
LossAndGradient evaluate(const std::vector<float>& values, int64_t cols, const Apply& apply) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  Workspace workspace(*backend);
  Context context{*backend, workspace};
  const Workspace::Scope scope(workspace);
  const int64_t rows = std::ssize(values) / cols;
  const Activation output = workspace.take_matrix(rows, cols), d = workspace.take_matrix(rows, cols);
  backend->upload(std::as_bytes(std::span(values)), output.memory);
  LossAndGradient out{apply(context, output, d), std::vector<float>(values.size())};
  backend->download(d, out.gradient);
  return out;
}

template <class Apply>
void expect_gradient_of_differences(const std::vector<float>& values, int64_t cols, double factor, const Apply& apply) {
  const std::vector<float> gradient = evaluate(values, cols, apply).gradient;
  for (size_t i = 0; i < values.size(); ++i) {
    constexpr float kStep = 0x1p-8f;
    std::vector<float> above = values, below = values;
    above[i] += kStep, below[i] -= kStep;
    const double measured =
        (evaluate(above, cols, apply).loss - evaluate(below, cols, apply).loss) / (2 * double{kStep});
    EXPECT_NEAR(gradient[i], factor * measured, 1e-4) << i;
  }
}

TEST(Loss, GradientsOfSpansAndGrades) {
  constexpr float kFactor = 0.5f;
  for (const LossKind kind : {LossKind::kSpan, LossKind::kGrades}) {
    const int64_t cols = kind == LossKind::kSpan ? 2 : 1;
    std::vector<float> values = {0.5f, -1.5f, 2, 0.25f, -0.75f, 1, 3, -2, 0, 0.5f}, says = values;
    std::ranges::reverse(says);
    if (kind == LossKind::kGrades) values.resize(5), says.resize(5);
    const LabelledBatch batch = batch_of(kind);
    expect_gradient_of_differences(values, cols, kFactor,
                                   [&](Context& context, const Activation& y, const Activation& d) {
                                     const double loss = apply_loss(context, kind, batch, kFactor, y);
                                     context.backend.copy(y.memory, d.memory);
                                     return loss;
                                   });
    const auto distance = [&](const std::vector<float>& teacher) {
      return [&, teacher](Context& context, const Activation& y, const Activation& d) {
        const Activation from = context.workspace.take_matrix(y.rows, y.cols);
        context.backend.upload(std::as_bytes(std::span(teacher)), from.memory);
        return distill(context, kind, batch, 2, kFactor, from, y, d);
      };
    };
    expect_gradient_of_differences(values, cols, kFactor, distance(says));
    EXPECT_GT(evaluate(values, cols, distance(says)).loss, 0.1);
    EXPECT_NEAR(evaluate(values, cols, distance(values)).loss, 0, 1e-12);
  }
}

}  // namespace
}  // namespace octet

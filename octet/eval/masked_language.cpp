// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/masked_language.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/data/token_mask.h"
#include "octet/data/token_windows.h"
#include "octet/eval/perplexity.h"
#include "octet/eval/task.h"

namespace octet {
namespace {

constexpr int64_t kUsualWindow = 512;

// What a model makes of the masked tokens of some windows.
struct Found {
  NllSums nll;
  int64_t right = 0;
};

// Runs a batch whose rows have `labels`, -1: not masked.
void judge(Session& session, const TokenBatch& batch, std::span<const int32_t> labels, int threads, Found& found) {
  const int64_t vocabulary = session.model().info().vocabulary;
  struct Row {
    double nll = 0;
    bool right = false;
  };
  session.run_in_parts(batch, logit_rows_at_once(vocabulary), [&](int64_t first, std::span<const float> logits) {
    std::vector<int64_t> masked;
    const int64_t rows = std::ssize(logits) / vocabulary;
    for (int64_t row = 0; row < rows; ++row) {
      if (labels[static_cast<size_t>(first + row)] >= 0) masked.push_back(row);
    }
    std::vector<Row> out(masked.size());
    parallel_for(threads, std::ssize(masked), [&](int64_t task, int) {
      const auto i = static_cast<size_t>(task);
      const std::span<const float> row =
          logits.subspan(static_cast<size_t>(masked[i] * vocabulary), static_cast<size_t>(vocabulary));
      const int32_t label = labels[static_cast<size_t>(first + masked[i])];
      out[i] = {.nll = negative_log_likelihood(row, label),
                .right = std::ranges::max_element(row) - row.begin() == label};
    });
    for (const Row& row : out) {
      found.nll.add(row.nll);
      found.right += row.right ? 1 : 0;
    }
  });
}

}  // namespace

void require_masked_lm(const ModelInfo& info, const std::string& source) {
  if (info.architecture.ends_with("ForMaskedLM")) return;
  fail<UsageError>("{}: {} has no head that finds masked tokens; one such as BertForMaskedLM is needed", source,
                   info.architecture);
}

TaskResult run_masked_language(Session& session, const TaskInput& input) {
  const ModelInfo& info = session.model().info();
  require_masked_lm(info, session.checkpoint().folder().string());
  if (input.windows.stride || input.windows.truncate)
    fail<UsageError>("the task 'mlm' reads all of a text in windows one after another; leave out how they are cut");
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const int64_t longest = std::min(tokenizer.model_max_length().value_or(info.max_positions), info.max_positions);
  const int64_t length = input.windows.window.value_or(std::min(longest, kUsualWindow));
  if (length > longest) fail<UsageError>("windows of {} tokens; this model's longest is {}", length, longest);
  const TokenMask mask(tokenizer, input.mask_probability);
  const TokenWindows windows(TokenDocuments::load(input.data, tokenizer, input.windows.documents), tokenizer, length,
                             TokenWindows::Frame::kWindow, input.limit);
  const int threads = input.threads == 0 ? available_threads() : input.threads;

  Found found;
  for (int64_t first = 0; first < windows.size();) {
    TokenBatch batch;
    std::vector<int32_t> labels;
    int64_t last = first;
    do {
      std::vector<int32_t> ids = windows.ids(static_cast<size_t>(last));
      const std::vector<int32_t> hidden = mask.apply(ids, 0, TokenMask::kFixed, static_cast<uint32_t>(last));
      batch.add(ids);
      labels.insert(labels.end(), hidden.begin(), hidden.end());
      ++last;
    } while (last < windows.size() &&
             batch.tokens() + windows.tokens(static_cast<size_t>(last)) <= kWindowTokensAtOnce);
    judge(session, batch, labels, threads, found);
    first = last;
    input.advance(first, windows.size());
  }
  if (found.nll.tokens() == 0) fail("{}: holds special tokens only", input.data.string());
  const Estimate perplexity = found.nll.per_token();
  const auto count = static_cast<double>(found.nll.tokens());
  // Of e^x it is e^x times that of x.
  const TaskResult::Metric loss{
      .name = "loss", .value = found.nll.sum() / count, .standard_error = perplexity.standard_error / perplexity.value};
  return {
      .metrics = {loss,
                  {.name = "pseudo_perplexity", .value = perplexity.value, .standard_error = perplexity.standard_error},
                  share_metric("accuracy", static_cast<double>(found.right) / count,
                               static_cast<size_t>(found.nll.tokens()))},
      .counts = {{"masked_tokens", found.nll.tokens()}, {"window", length}},
      .examples = windows.size(),
      .notes = {}};
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/text_labels.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "octet/base/error.h"
#include "octet/models/batches.h"

namespace octet {

std::vector<int64_t> LabelLogits::classes() const {
  std::vector<int64_t> result;
  for (const std::vector<float>& row : rows) result.push_back(std::ranges::max_element(row) - row.begin());
  return result;
}

std::vector<double> LabelLogits::grades() const {
  std::vector<double> result;
  for (const std::vector<float>& row : rows) result.push_back(row.front());
  return result;
}

LabelLogits run_label_logits(Session& session, const Tokenizer& tokenizer, const LabelledTexts& texts, size_t count,
                             const std::function<void(int64_t texts)>& advance) {
  const ModelInfo& info = session.model().info();
  if (info.output != OutputKind::kSequenceLogits) {
    fail("{}: {} has no head that gives a label to a text; one such as BertForSequenceClassification is needed",
         session.checkpoint().folder().string(), info.architecture);
  }
  const int64_t longest = std::min(tokenizer.model_max_length().value_or(info.max_positions), info.max_positions);
  LabelLogits logits;
  std::vector<Encoding> encodings;
  for (size_t i = 0; i < count; ++i) {
    const EncodeOptions options{.truncation = Truncation{.max_length = longest}};
    encodings.push_back(texts.in_pairs() ? tokenizer.encode_pair(texts.first[i], texts.second[i], options)
                                         : tokenizer.encode(texts.first[i], options));
    logits.truncated += encodings.back().dropped > 0 ? 1 : 0;
  }
  logits.rows.resize(count);
  for_batches_by_length(encodings, [&](const TokenBatch& batch, std::span<const size_t> places) {
    const Tensor out = session.run(batch);
    const auto columns = static_cast<size_t>(out.shape()[1]);
    for (size_t i = 0; i < places.size(); ++i) {
      const auto row = out.as<float>().subspan(i * columns, columns);
      logits.rows[places[i]].assign(row.begin(), row.end());
    }
    if (advance) advance(std::ssize(places));
  });
  return logits;
}

}  // namespace octet

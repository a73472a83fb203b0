// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/output_comparison.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/data/lines.h"
#include "octet/eval/compare_decoders.h"
#include "octet/eval/perplexity.h"
#include "octet/eval/text_windows.h"
#include "octet/generate/prefill.h"

namespace octet {
namespace {

constexpr int64_t kDefaultWindow = 256;
constexpr int64_t kTokensPerBatch = 1024;
constexpr int64_t kReferenceBytes = int64_t{64} << 20;

// `count` of [0, total), evenly spread.
std::vector<size_t> spread(int64_t count, int64_t total) {
  std::vector<size_t> places;
  for (int64_t i = 0; i < std::min(count, total); ++i)
    places.push_back(static_cast<size_t>(count >= total ? i : i * total / count));
  return places;
}

void add_sequence(TextSample& sample, const TokenBatch& sequence) {
  if (sample.batches.empty() || sample.batches.back().tokens() + sequence.tokens() > kTokensPerBatch)
    sample.batches.emplace_back();
  sample.batches.back().add(sequence.ids, sequence.type_ids);
  sample.tokens += sequence.tokens();
  ++sample.sequences;
}

TextSample sample_windows(const std::filesystem::path& file, const Tokenizer& tokenizer, int64_t longest,
                          int64_t tokens, int64_t window) {
  const int64_t size = window != 0 ? window : std::min(longest, kDefaultWindow);
  const TextWindows text =
      read_windows(file, tokenizer, {.window = std::min(size, std::max<int64_t>(tokens, 2))}, longest);
  TextSample sample;
  for (const size_t i : spread((tokens + text.window - 1) / text.window, std::ssize(text.windows)))
    add_sequence(sample, text.batch(i, i + 1));
  return sample;
}

TextSample sample_lines(const std::filesystem::path& file, const Tokenizer& tokenizer, int64_t longest,
                        int64_t tokens) {
  std::vector<std::string> lines = read_lines(file);
  std::erase_if(lines, [](const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; });
  if (lines.empty()) fail("{}: holds no text", file.string());
  // Twice as many places as there were before, in between them, until the tokens are enough.
  TextSample sample;
  std::vector<bool> taken(lines.size(), false);
  for (int64_t count = 1; sample.tokens < tokens; count *= 2) {
    for (const size_t i : spread(count, std::ssize(lines))) {
      if (taken[i] || sample.tokens >= tokens) continue;
      taken[i] = true;
      const Encoding encoding = tokenizer.encode(lines[i], {.truncation = Truncation{.max_length = longest}});
      sample.truncated += encoding.dropped > 0 ? 1 : 0;
      TokenBatch sequence;
      sequence.add(encoding.ids, encoding.type_ids);
      add_sequence(sample, sequence);
    }
    if (count >= std::ssize(lines)) break;
  }
  return sample;
}

double squared_norm(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * double{value};
  return sum;
}

double squared_difference(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = double{a[i]} - double{b[i]};
    sum += difference * difference;
  }
  return sum;
}

}  // namespace

TextSample read_sample(const std::filesystem::path& file, const Tokenizer& tokenizer, const ModelInfo& info,
                       int64_t tokens, int64_t window) {
  return info.causal ? sample_windows(file, tokenizer, info.max_positions, tokens, window)
                     : sample_lines(file, tokenizer, info.max_positions, tokens);
}

OutputComparison::OutputComparison(const std::filesystem::path& directory, const ModelInfo& info, TextSample sample,
                                   int threads)
    : sample_(std::move(sample)), threads_(threads == 0 ? available_threads() : threads) {
  if (sample_.tokens == 0) fail("no text to compare on");
  reference_.resize(sample_.batches.size());
  if (info.output == OutputKind::kHiddenStates) {
    sentence_ = read_sentence_config(directory);
    measure_ = sentence_.found ? OutputMeasure::kSentenceVectors : OutputMeasure::kHiddenStates;
  }
  a_row_a_sequence_ = info.output == OutputKind::kSequenceLogits || measure_ == OutputMeasure::kSentenceVectors;
  if (info.output == OutputKind::kTokenLogits) {
    const int64_t most = std::max<int64_t>(1, kReferenceBytes / (info.vocabulary * int64_t{sizeof(float)}));
    every_ = (sample_.tokens + most - 1) / most;
  }
}

void OutputComparison::visit(const Model& model, Context& context, const DeviceBatch& on_device, const Activation& x,
                             const std::function<void(int64_t, std::span<const float>)>& visit) const {
  std::vector<float> rows;
  const auto hand_on = [&](int64_t first, const Activation& output) {
    check_numerics(context, model.sites(), on_device.host.offsets);
    rows.resize(static_cast<size_t>(output.rows * output.cols));
    context.backend.download(output, rows);
    visit(first, rows);
  };
  if (a_row_a_sequence_) {
    const Workspace::Scope scope(context.workspace);
    Activation output = model.head(context, on_device, x);
    if (measure_ == OutputMeasure::kSentenceVectors) {
      const Activation pooled = context.workspace.take_matrix(on_device.host.sequences(), output.cols);
      context.backend.pool({.x = output, .offsets = on_device.offsets, .pooling = sentence_.pooling, .y = pooled});
      if (sentence_.normalize) context.backend.l2_normalize(pooled);
      output = pooled;
    }
    hand_on(0, output);
    return;
  }
  Activation looked_at = x;
  looked_at.rows = (x.rows + every_ - 1) / every_;
  looked_at.stride = x.stride * every_;
  const int64_t rows_at_once = logit_rows_at_once(model.info().vocabulary);
  for (int64_t first = 0; first < looked_at.rows; first += rows_at_once) {
    const Workspace::Scope scope(context.workspace);
    const int64_t count = std::min(rows_at_once, looked_at.rows - first);
    hand_on(first, model.head(context, on_device, looked_at.row_range(first, count)));
  }
}

void OutputComparison::set_reference(const Model& model, Context& context, size_t batch, const DeviceBatch& on_device,
                                     const Activation& x) {
  std::vector<float>& kept = reference_[batch];
  if (!kept.empty()) rows_ -= std::ssize(kept) / columns_;
  kept.clear();
  visit(model, context, on_device, x,
        [&](int64_t, std::span<const float> rows) { kept.insert(kept.end(), rows.begin(), rows.end()); });
  const int64_t rows = a_row_a_sequence_ ? on_device.host.sequences() : (x.rows + every_ - 1) / every_;
  columns_ = std::ssize(kept) / rows;
  rows_ += rows;
  // Start and end of an answer are distributions over tokens, one score is none.
  const ModelInfo& info = model.info();
  if ((info.output == OutputKind::kTokenLogits && columns_ != info.vocabulary) ||
      (info.output == OutputKind::kSequenceLogits && columns_ < 2))
    measure_ = OutputMeasure::kLogits;
}

void OutputComparison::add(const Model& model, Context& context, size_t batch, const DeviceBatch& on_device,
                           const Activation& x, Sums& sums) const {
  const auto columns = static_cast<size_t>(columns_);
  visit(model, context, on_device, x, [&](int64_t first, std::span<const float> rows) {
    const size_t count = rows.size() / columns;
    const std::span<const float> reference =
        std::span(reference_[batch]).subspan(static_cast<size_t>(first) * columns, rows.size());
    if (measure_ != OutputMeasure::kDistributions) {
      sums.sum += squared_difference(reference, rows);
      sums.reference += squared_norm(reference);
    } else {
      std::vector<double> kl(count);
      parallel_for(threads_, static_cast<int64_t>(count), [&](int64_t row, int) {
        const size_t begin = static_cast<size_t>(row) * columns;
        kl[static_cast<size_t>(row)] =
            compare_softmax(reference.subspan(begin, columns), rows.subspan(begin, columns)).kl;
      });
      for (const double value : kl) {
        sums.sum += value;
        sums.squares += value * value;
      }
    }
    sums.rows += static_cast<int64_t>(count);
  });
}

Divergence OutputComparison::divergence(const Sums& sums, const std::string& what) const {
  if (!std::isfinite(sums.sum)) fail<NumericError>("{}: its outputs hold NaN or infinity", what);
  if (measure_ != OutputMeasure::kDistributions) {
    if (sums.reference == 0) fail<NumericError>("the float model's outputs are all zero");
    return {.value = sums.sum / sums.reference, .standard_error = std::nan("")};
  }
  const auto n = static_cast<double>(sums.rows);
  const double mean = sums.sum / n;
  const double variance = std::max(0.0, sums.squares / n - mean * mean);
  return {.value = mean, .standard_error = n < 2 ? std::nan("") : std::sqrt(variance / (n - 1))};
}

void OutputComparison::set_reference(Session& session) {
  Context context = session.context();
  for_each_batch(session.model(), context, sample_,
                 [&](size_t batch, const DeviceBatch& on_device, const Activation& x) {
                   set_reference(session.model(), context, batch, on_device, x);
                 });
}

Divergence OutputComparison::compare(Session& session, const std::string& what) const {
  Sums sums;
  Context context = session.context();
  for_each_batch(session.model(), context, sample_,
                 [&](size_t batch, const DeviceBatch& on_device, const Activation& x) {
                   add(session.model(), context, batch, on_device, x, sums);
                 });
  return divergence(sums, what);
}

void for_each_batch(const Model& model, Context& context, const TextSample& sample,
                    const std::function<void(size_t, const DeviceBatch&, const Activation&)>& use) {
  for (size_t i = 0; i < sample.batches.size(); ++i) {
    const Workspace::Scope scope(context.workspace);
    const DeviceBatch on_device = upload(context, sample.batches[i]);
    use(i, on_device, model.hidden_states(context, on_device));
  }
}

}  // namespace octet

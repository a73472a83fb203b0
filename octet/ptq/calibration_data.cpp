// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/calibration_data.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"
#include "octet/base/philox.h"
#include "octet/base/sha256.h"
#include "octet/data/lines.h"
#include "octet/data/pairs.h"
#include "octet/data/questions.h"
#include "octet/io/config.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

// Fewer tell next to nothing of what activations are like; usual are 65,536.
constexpr int64_t kFewestTokens = 128;

struct Sample {
  std::vector<int32_t> ids, type_ids;
};

// A text that is a sample by itself, or two.
struct Example {
  std::string first, second;
};

std::vector<Example> read_pairs(const fs::path& file, const ModelInfo& model) {
  SentencePairs pairs = read_sentence_pairs(file);
  std::vector<Example> examples;
  const bool together = model.output == OutputKind::kSequenceLogits;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (together) {
      examples.push_back({std::move(pairs.first[i]), std::move(pairs.second[i])});
    } else {
      examples.push_back({std::move(pairs.first[i]), {}});
      examples.push_back({std::move(pairs.second[i]), {}});
    }
  }
  return examples;
}

std::vector<Example> read_json_lines(const fs::path& file) {
  std::vector<Example> examples;
  const std::vector<std::string> lines = read_lines(file);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find_first_not_of(" \t") == std::string::npos) continue;
    const std::string source = fmt::format("{}: line {}", file.string(), i + 1);
    if (Config::parse(lines[i], source).has("text")) {
      examples.push_back({parse_passage(lines[i], source).text, {}});
    } else {
      const MultipleChoice question = parse_multiple_choice(lines[i], source);
      examples.push_back({question.context + " " + question.choices[question.answer], {}});
    }
  }
  return examples;
}

Sample sample_of(Encoding encoding) { return {std::move(encoding.ids), std::move(encoding.type_ids)}; }

std::vector<Sample> tokenize(const std::vector<Example>& examples, const Tokenizer& tokenizer, int64_t length) {
  const EncodeOptions options{.truncation = Truncation{.max_length = length}};
  std::vector<Sample> samples;
  for (const Example& example : examples) {
    if (example.first.empty() && example.second.empty()) continue;
    samples.push_back(sample_of(example.second.empty()
                                    ? tokenizer.encode(example.first, options)
                                    : tokenizer.encode_pair(example.first, example.second, options)));
  }
  return samples;
}

// Whether the tokenizer puts tokens behind a text too, so that a piece of its tokens is not what a model reads.
bool frames(const Tokenizer& tokenizer) {
  const Encoding encoding = tokenizer.encode("a");
  return !encoding.special_tokens_mask.empty() && encoding.special_tokens_mask.back() == 1;
}

// `text` in sequences of `length` tokens, one after another.
std::vector<Sample> cut(std::string_view text, const Tokenizer& tokenizer, int64_t length) {
  const bool framed = frames(tokenizer);
  const Encoding encoding = tokenizer.encode(
      text, {.special_tokens = framed ? SpecialTokens::kWithout : SpecialTokens::kWith, .truncation = {}});
  const auto frame =
      framed ? std::ssize(tokenizer.encode("a").ids) -
                   std::ssize(tokenizer.encode("a", {.special_tokens = SpecialTokens::kWithout, .truncation = {}}).ids)
             : 0;
  const auto tokens = std::ssize(encoding.ids);
  const int64_t step = length - frame;
  std::vector<Sample> samples;
  if (step < 1) return samples;
  const EncodeOptions truncate{.truncation = Truncation{.max_length = length}};
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t end = std::min(begin + step, tokens);
    if (end - begin < step && !samples.empty()) break;
    if (framed) {
      const auto [first, last] = std::pair(encoding.offsets[static_cast<size_t>(begin)].first,
                                           encoding.offsets[static_cast<size_t>(end - 1)].second);
      samples.push_back(sample_of(
          tokenizer.encode(text.substr(static_cast<size_t>(first), static_cast<size_t>(last - first)), truncate)));
    } else {
      samples.push_back({{encoding.ids.begin() + begin, encoding.ids.begin() + end},
                         {encoding.type_ids.begin() + begin, encoding.type_ids.begin() + end}});
    }
  }
  return samples;
}

// `count` of `total` without repetition, ascending: the first of a Fisher-Yates shuffle.
std::vector<size_t> draw(size_t total, size_t count, uint64_t seed) {
  std::vector<size_t> order(total);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = 0; i < count; ++i) {
    const std::array<uint32_t, 4> random = philox({static_cast<uint32_t>(i), 0, 0, 0}, seed);
    const double share = uniform_double(random[0], random[1]);
    std::swap(order[i], order[i + static_cast<size_t>(share * static_cast<double>(total - i))]);
  }
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

std::optional<int32_t> unknown_token(const Tokenizer& tokenizer) {
  for (const char* name : {"[UNK]", "<unk>", "<UNK>"}) {
    if (const std::optional<int32_t> id = tokenizer.token_to_id(name)) return id;
  }
  return std::nullopt;
}

}  // namespace

std::string fingerprint(const TokenBatch& samples) {
  Sha256 sum;
  for (const std::vector<int32_t>* values : {&samples.offsets, &samples.ids, &samples.positions, &samples.type_ids})
    sum.add(std::as_bytes(std::span(*values)));
  return sum.hex();
}

CalibrationData read_calibration_data(const fs::path& file, const Tokenizer& tokenizer, const ModelInfo& model,
                                      const CalibrationOptions& options) {
  if (options.sequence_length > model.max_positions) {
    fail<UsageError>("calibration with sequences of {} tokens; this model's longest is {} (--seq {})",
                     options.sequence_length, model.max_positions, model.max_positions);
  }
  const std::string text = read_text_file(file, kLargestLinesFile);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    fail("{}: is empty; calibration needs a text of the kind that the model is for", file.string());
  }
  if (const size_t zero = text.find('\0'); zero != std::string::npos)
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text", file.string(), zero);

  const std::string kind = file.extension().string();
  const int64_t length = options.sequence_length;
  std::vector<Sample> samples = kind == ".tsv" ? tokenize(read_pairs(file, model), tokenizer, length)
                                : kind == ".json" || kind == ".jsonl"
                                    ? tokenize(read_json_lines(file), tokenizer, length)
                                    : cut(text, tokenizer, length);
  std::erase_if(samples, [](const Sample& sample) { return sample.ids.empty(); });

  CalibrationData data{.samples = {}, .options = options, .sha256 = {}};
  const size_t count = std::min(samples.size(), static_cast<size_t>(options.samples));
  for (const size_t i : draw(samples.size(), count, options.seed))
    data.samples.add(samples[i].ids, samples[i].type_ids);
  const int64_t tokens = data.samples.tokens();
  if (tokens < kFewestTokens) {
    fail("{}: {} token{} in {} sample{}; calibration needs {} at least, and {} × {} is usual", file.string(), tokens,
         tokens == 1 ? "" : "s", count, count == 1 ? "" : "s", kFewestTokens, CalibrationOptions().samples,
         CalibrationOptions().sequence_length);
  }
  if (const std::optional<int32_t> unknown = unknown_token(tokenizer)) {
    const auto unknowns = std::ranges::count(data.samples.ids, *unknown);
    if (unknowns * 2 > tokens) {
      fail("{}: {} of {} tokens are unknown to the model's tokenizer; this is no text of its language", file.string(),
           unknowns, tokens);
    }
    // A twentieth of what is written is more than names and misprints.
    if (unknowns * 20 > tokens)
      data.notes.push_back(fmt::format("{} of {} calibration tokens are unknown to the tokenizer", unknowns, tokens));
  }
  if (std::cmp_less(count, options.samples)) {
    data.notes.push_back(fmt::format("calibration has {} sample{}, {} tokens; {} samples were asked for", count,
                                     count == 1 ? "" : "s", tokens, options.samples));
  }
  Sha256 sum;
  sum.add(std::as_bytes(std::span(text)));
  data.sha256 = sum.hex();
  return data;
}

}  // namespace octet

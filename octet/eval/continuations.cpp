// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/continuations.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/parallel.h"
#include "octet/eval/perplexity.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

size_t end_without_space(std::string_view text) {
  size_t end = 0;
  for (size_t position = 0; position < text.size();) {
    if (!unicode::is_whitespace(unicode::decode_utf8(text, position))) end = position;
  }
  return end;
}

// Without special tokens at the end: a text that goes on has no end.
std::vector<int32_t> begin_text(const Tokenizer& tokenizer, const std::string& text) {
  Encoding encoding = tokenizer.encode(text);
  // Of an empty text, which of the special tokens stand before it and which behind cannot be told; those that a
  // decoder's tokenizer adds stand before.
  while (!text.empty() && !encoding.ids.empty() && encoding.special_tokens_mask.back() == 1) {
    encoding.ids.pop_back();
    encoding.special_tokens_mask.pop_back();
  }
  return std::move(encoding.ids);
}

// Whether no logit is larger, nor equal with a lower index.
bool is_most_likely(std::span<const float> logits, int32_t id) {
  const auto at = static_cast<size_t>(id);
  const auto below = [&](float x) { return x < logits[at]; };
  const auto not_above = [&](float x) { return x <= logits[at]; };
  return std::ranges::all_of(logits.first(at), below) && std::ranges::all_of(logits.subspan(at + 1), not_above);
}

// A token whose likelihood is asked for: of element and continuation, with the row of logits that predicts it.
struct Asked {
  size_t element = 0, continuation = 0;
  int64_t row = 0;
  int32_t token = 0;
};

// Elements at work together.
class Group {
 public:
  Group(Session& session, KvCache& cache, std::span<const Continuations> elements,
        std::span<std::vector<Likelihood>> results, int threads)
      : session_(session),
        cache_(cache),
        elements_(elements),
        results_(results),
        threads_(threads),
        vocabulary_(session.model().info().vocabulary) {}

  void run() {
    size_t rounds = 0;
    for (const Continuations& element : elements_) rounds = std::max(rounds, element.continuations.size());
    for (size_t i = 0; i < elements_.size(); ++i) results_[i].assign(elements_[i].continuations.size(), {});
    read_contexts();
    for (size_t k = 0; k < rounds; ++k) read_continuations(k);
    for (const int sequence : sequences_) cache_.remove_sequence(sequence);
  }

 private:
  // The last row of each context predicts the first token of each of its continuations.
  void read_contexts() {
    TokenBatch batch;
    std::vector<Asked> asked;
    for (size_t i = 0; i < elements_.size(); ++i) {
      sequences_.push_back(cache_.add_sequence());
      batch.add(elements_[i].context);
      for (size_t k = 0; k < elements_[i].continuations.size(); ++k)
        asked.push_back({i, k, static_cast<int64_t>(i), elements_[i].continuations[k].front()});
    }
    std::vector<float> logits(elements_.size() * static_cast<size_t>(vocabulary_));
    session_.step(cache_, sequences_, batch, logits);
    add(asked, logits);
  }

  // The k-th continuation of each element that has one: what its first token does not need.
  void read_continuations(size_t k) {
    TokenBatch batch;
    std::vector<int> sequences;
    std::vector<Asked> asked;
    for (size_t i = 0; i < elements_.size(); ++i) {
      if (k >= elements_[i].continuations.size()) continue;
      const std::vector<int32_t>& ids = elements_[i].continuations[k];
      if (ids.size() == 1) continue;
      for (size_t t = 1; t < ids.size(); ++t)
        asked.push_back({i, k, batch.tokens() + static_cast<int64_t>(t) - 1, ids[t]});
      batch.add(std::span(ids).first(ids.size() - 1), {}, std::ssize(elements_[i].context));
      sequences.push_back(sequences_[i]);
    }
    if (asked.empty()) return;
    session_.step_in_parts(cache_, sequences, batch, logit_rows_at_once(vocabulary_),
                           [&, next = asked.begin()](int64_t first, std::span<const float> rows) mutable {
                             const int64_t end = first + std::ssize(rows) / vocabulary_;
                             const auto begin = next;
                             for (; next != asked.end() && next->row < end; ++next) next->row -= first;
                             add({begin, next}, rows);
                           });
    for (size_t i = 0; i < elements_.size(); ++i) cache_.truncate(sequences_[i], std::ssize(elements_[i].context));
  }

  void add(std::span<const Asked> asked, std::span<const float> logits) {
    std::vector<Likelihood> of_tokens(asked.size());
    parallel_for(threads_, std::ssize(asked), [&](int64_t i, int) {
      const Asked& one = asked[static_cast<size_t>(i)];
      const auto row = logits.subspan(static_cast<size_t>(one.row * vocabulary_), static_cast<size_t>(vocabulary_));
      of_tokens[static_cast<size_t>(i)] = {.log = -negative_log_likelihood(row, one.token),
                                           .greedy = is_most_likely(row, one.token)};
    });
    for (size_t i = 0; i < asked.size(); ++i) {
      Likelihood& sum = results_[asked[i].element][asked[i].continuation];
      sum.log += of_tokens[i].log;
      sum.greedy = sum.greedy && of_tokens[i].greedy;
    }
  }

  Session& session_;
  KvCache& cache_;
  std::span<const Continuations> elements_;
  std::span<std::vector<Likelihood>> results_;
  int threads_;
  int64_t vocabulary_;
  std::vector<int> sequences_;  // of the cache, one an element
};

int64_t longest_continuation(const Continuations& element) {
  int64_t longest = 0;
  for (const std::vector<int32_t>& ids : element.continuations) longest = std::max(longest, std::ssize(ids));
  return longest;
}

}  // namespace

Continuations tokenize_continuations(const Tokenizer& tokenizer, std::string_view context,
                                     std::span<const std::string> continuations, const std::string& source) {
  const std::string kept(context.substr(0, end_without_space(context)));
  Continuations result{.context = begin_text(tokenizer, kept), .continuations = {}};
  const size_t split = result.context.size();
  for (const std::string& continuation : continuations) {
    std::vector<int32_t> ids = begin_text(tokenizer, std::string(context).append(continuation));
    if (ids.size() <= split) {
      fail<FormatError>("{}: {} adds no token to the context before it, so it has no likelihood", source,
                        quote_name(continuation));
    }
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(split));
    result.continuations.push_back(std::move(ids));
  }
  if (split == 0) {
    const std::optional<int32_t> first = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
    if (!first) {
      fail<FormatError>("{}: the context is empty, and this model's tokenizer has no token to begin a text with",
                        source);
    }
    result.context = {*first};
  }
  return result;
}

bool truncate_context(Continuations& continuations, int64_t longest_context, const std::string& source) {
  const int64_t room = longest_context - longest_continuation(continuations) + 1;
  if (room < 1) {
    fail<FormatError>("{}: a continuation has {} tokens; this model's longest context is {}", source,
                      longest_continuation(continuations), longest_context);
  }
  const int64_t too_many = std::ssize(continuations.context) - room;
  if (too_many <= 0) return false;
  continuations.context.erase(continuations.context.begin(), continuations.context.begin() + too_many);
  return true;
}

std::vector<std::vector<Likelihood>> likelihoods(Session& session, std::span<const Continuations> elements, int threads,
                                                 const std::function<void(int64_t elements)>& advance) {
  require_decoder(session);
  if (threads == 0) threads = available_threads();
  const int64_t most_elements = logit_rows_at_once(session.model().info().vocabulary);
  KvCache cache = session.make_cache();
  std::vector<std::vector<Likelihood>> results(elements.size());
  for (size_t first = 0, last = 0; first < elements.size(); first = last) {
    int64_t tokens = 0;
    for (; last < elements.size() && std::cmp_less(last - first, most_elements); ++last) {
      tokens += std::ssize(elements[last].context) + longest_continuation(elements[last]);
      if (last > first && tokens > kWindowTokensAtOnce) break;
    }
    Group(session, cache, elements.subspan(first, last - first), std::span(results).subspan(first, last - first),
          threads)
        .run();
    if (advance) advance(static_cast<int64_t>(last - first));
  }
  return results;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/generate/draft.h"

namespace octet {
namespace {

Session& checked(Session& session) {
  require_decoder(session);
  return session;
}

}  // namespace

DraftModel::DraftModel(Session& session) : session_(checked(session)), cache_(session.make_cache()) {}

void DraftModel::forget(int64_t request) {
  const auto known = sequences_.find(request);
  if (known == sequences_.end()) return;
  cache_.remove_sequence(known->second);
  sequences_.erase(known);
}

std::vector<std::vector<int32_t>> DraftModel::guess(std::span<const DraftText> texts) {
  const ModelInfo& info = session_.model().info();
  std::vector<std::vector<int32_t>> guesses(texts.size());
  std::vector<std::vector<int32_t>> ids(texts.size());
  const auto wanted = [&](size_t i) {
    const int64_t room = info.max_positions - std::ssize(texts[i].ids);
    return std::min(texts[i].most, room);
  };
  for (size_t i = 0; i < texts.size(); ++i) {
    ids[i].assign(texts[i].ids.begin(), texts[i].ids.end());
    if (wanted(i) < 1) continue;
    const auto [known, is_new] = sequences_.try_emplace(texts[i].request, 0);
    if (is_new) known->second = cache_.add_sequence(ids[i]);
    // Up to where the text took another turn than guessed. Its last token is run again even if it was guessed right:
    // what follows it is wanted.
    const std::span<const int32_t> run = cache_.tokens(known->second);
    const auto common = std::ranges::mismatch(run, ids[i]).in1 - run.begin();
    cache_.truncate(known->second, std::min<int64_t>(common, std::ssize(ids[i]) - 1));
  }
  const auto vocabulary = static_cast<size_t>(info.vocabulary);
  for (;;) {
    std::vector<Continuation> continuations;
    std::vector<size_t> of_text;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (std::ssize(guesses[i]) >= wanted(i)) continue;
      const int sequence = sequences_.at(texts[i].request);
      const auto run = static_cast<size_t>(cache_.length(sequence));
      continuations.push_back({.sequence = sequence, .ids = std::span(ids[i]).subspan(run)});
      of_text.push_back(i);
    }
    if (continuations.empty()) return guesses;
    step_in_pieces(session_, cache_, continuations, kPrefillTokens, logits_);
    size_t row = 0;
    for (size_t c = 0; c < continuations.size(); ++c) {
      if (!continuations[c].ids.empty()) continue;
      const size_t i = of_text[c];
      const int32_t id = texts[i].sampler->sample(std::span(logits_).subspan(row++ * vocabulary, vocabulary), ids[i],
                                                  texts[i].prompt_tokens);
      guesses[i].push_back(id);
      ids[i].push_back(id);
    }
  }
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/models/session.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// Tokens that a decoder reads, and those whose likelihood after them is asked for.
struct Continuations {
  std::vector<int32_t> context;                     ///< not empty
  std::vector<std::vector<int32_t>> continuations;  ///< each after the same context; none empty
};

/// The tokens of a context and of texts that may follow it, as lm-evaluation-harness (Gao et al., 2021) splits them:
/// white space at the context's end is moved to the continuations; each is what the tokens of both as one text have
/// beyond the number of the context's own. The context begins as the tokenizer begins a text; where that is with
/// nothing and the context is empty, with bos_id() or eos_id(). Throws FormatError, naming `source`, where a
/// continuation adds no token or there is nothing to begin with.
Continuations tokenize_continuations(const Tokenizer& tokenizer, std::string_view context,
                                     std::span<const std::string> continuations, const std::string& source);

/// Leaves out first tokens of the context where it and the longest continuation, but for the last token, which no other
/// follows, are more than `longest_context`. Whether there were any. Throws FormatError, naming `source`, where no
/// token of the context would be left.
bool truncate_context(Continuations& continuations, int64_t longest_context, const std::string& source);

/// Of one continuation.
struct Likelihood {
  double log = 0;      ///< the natural logarithm of its probability, that is the sum over its tokens
  bool greedy = true;  ///< whether each of its tokens is the most likely, of equal ones the one with the lowest id
};

/// The likelihood of each continuation of each element. A context runs once, whatever the number of its continuations,
/// and many elements at once; what one gives does not depend on the others. Work outside the model is done on `threads`
/// threads (0: all). Throws UsageError where the model is no decoder, NumericError for logits with NaN or infinity.
std::vector<std::vector<Likelihood>> likelihoods(Session& session, std::span<const Continuations> elements, int threads,
                                                 const std::function<void(int64_t elements)>& advance = {});

}  // namespace octet

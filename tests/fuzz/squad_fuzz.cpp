// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "octet/base/error.h"
#include "octet/data/squad.h"

// Every answer that is read stands in its context.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    for (const octet::SquadQuestion& question :
         octet::parse_squad({reinterpret_cast<const char*>(data), size}, "squad.json")) {
      if (question.answers.empty() || question.answers.size() != question.answer_starts.size()) std::abort();
      for (size_t i = 0; i < question.answers.size(); ++i) {
        const std::string& answer = question.answers[i];
        if (question.context.substr(static_cast<size_t>(question.answer_starts[i]), answer.size()) != answer)
          std::abort();
      }
    }
  } catch (const octet::FormatError&) {
  }
  return 0;
}

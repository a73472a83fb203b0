// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/dropout_mask.h"

#include <algorithm>
#include <array>

#include "octet/base/error.h"

namespace octet::cpu {
namespace {

constexpr uint64_t kWordsOfCounter = 4;
constexpr int64_t kElementsAtOnce = 256;

}  // namespace

DropoutMask::DropoutMask(const KernelTable& table, const Dropout& dropout, const char* what)
    : table_(table), dropout_(dropout) {
  if (!(dropout.probability >= 0 && dropout.probability < 1))
    fail("{}: the probability {} of dropout is not in [0, 1)", what, dropout.probability);
}

void DropoutMask::apply(uint64_t first, int64_t count, const float* x, float factor, float* y) const {
  // The largest probability is 1 - 2^-24, so that this is below 2^32.
  const auto limit = static_cast<uint32_t>(double{dropout_.probability} * 0x1p32);
  std::array<uint32_t, kElementsAtOnce + 2 * kWordsOfCounter> words;
  std::array<float, kElementsAtOnce> given;
  for (int64_t i = 0; i < count; i += kElementsAtOnce) {
    const uint64_t element = first + static_cast<uint64_t>(i), before = element % kWordsOfCounter;
    const int64_t elements = std::min(kElementsAtOnce, count - i);
    const uint64_t counters = (before + static_cast<uint64_t>(elements) + kWordsOfCounter - 1) / kWordsOfCounter;
    table_.random_words({.counter = element / kWordsOfCounter,
                         .count = static_cast<int64_t>(counters),
                         .stream = dropout_.stream,
                         .step = dropout_.step,
                         .seed = dropout_.seed,
                         .words = words.data()});
    // Compilers make vectors of the loop as nothing in it can overlap.
    std::copy_n(x + i, elements, given.data());
    const uint32_t* const bits = words.data() + before;
    float* const out = y + i;
    for (int64_t k = 0; k < elements; ++k) out[k] = bits[k] < limit ? 0.0f : given[k] * factor;
  }
}

void DropoutMask::apply_to_weights(const AttentionRow& row, int64_t key, int64_t count, float factor,
                                   float* weights) const {
  const auto place = static_cast<uint64_t>(row.row * row.heads + row.head);
  apply((place << 32) + static_cast<uint64_t>(key), count, weights, factor, weights);
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include "octet/train/data_order.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "octet/base/philox.h"

namespace octet {
namespace {

// Batches whose examples are sorted by length together: enough for lengths to be alike, few enough for each epoch to
// have other neighbours.
constexpr int64_t kBatchesSortedTogether = 50;

enum Stream : uint32_t { kExamples = 1, kBatches = 2 };

// Fisher and Yates, from the last element down.
template <class T>
void shuffle(std::vector<T>& values, uint64_t seed, int64_t epoch, Stream stream) {
  for (size_t i = values.size(); i > 1; --i) {
    const std::array<uint32_t, 4> bits = philox(
        {static_cast<uint32_t>(i), static_cast<uint32_t>(uint64_t{i} >> 32), static_cast<uint32_t>(epoch), stream},
        seed);
    // 53 random bits choose evenly enough among fewer than 2^31 places.
    std::swap(values[i - 1], values[static_cast<size_t>(uniform_double(bits[0], bits[1]) * static_cast<double>(i))]);
  }
}

}  // namespace

std::vector<std::vector<size_t>> DataOrder::epoch(int64_t epoch, const std::function<int64_t(size_t)>& length) const {
  std::vector<size_t> order(static_cast<size_t>(examples));
  std::iota(order.begin(), order.end(), size_t{0});
  if (shuffled) shuffle(order, seed, epoch, kExamples);
  if (by_length) {
    const auto together = static_cast<size_t>(kBatchesSortedTogether * batch_size);
    for (size_t first = 0; first < order.size(); first += together) {
      const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), first + together));
      std::stable_sort(begin, end, [&](size_t a, size_t b) { return length(a) > length(b); });
    }
  }
  std::vector<std::vector<size_t>> batches;
  for (int64_t first = 0; first < examples; first += batch_size) {
    const int64_t last = std::min(examples, first + batch_size);
    if (drop_last && last - first < batch_size) break;
    batches.emplace_back(order.begin() + first, order.begin() + last);
  }
  if (by_length && shuffled) shuffle(batches, seed, epoch, kBatches);
  return batches;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace octet {

/// How an epoch goes through its examples.
struct DataOrder {
  int64_t examples = 0, batch_size = 1;
  uint64_t seed = 0;
  bool shuffled = true;
  bool by_length = false;  ///< batches of examples of like length, in a random order themselves
  bool drop_last = false;  ///< leave out the last batch if it is not full

  int64_t batches() const noexcept {
    return drop_last ? examples / batch_size : (examples + batch_size - 1) / batch_size;
  }
  /// The examples of each batch of an epoch: a function of seed, epoch and lengths alone, so a run that is resumed
  /// finds the same. `length` is asked for by_length only.
  std::vector<std::vector<size_t>> epoch(int64_t epoch, const std::function<int64_t(size_t)>& length) const;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

/// Which memory holds values that are known, to one who sees only what operations read and write from some moment on.
class KnownValues {
 public:
  enum class Known : uint8_t {
    kNo,    ///< nothing of x
    kYes,   ///< all of it
    kPart,  ///< some of it, or it cannot be told
  };
  Known find(const Activation& x) const;
  void add(const Activation& x) { known_.push_back(x); }

 private:
  std::vector<Activation> known_;
};

/// A batch that was left inside a block: how many operations had run, and of what these had made the values that the
/// others read. Whoever runs the block again on the same batch, with nothing changed in its first part, can leave that
/// part out.
///
/// Neither side knows the block. The one that leaves it calls keep() with what each operation reads and wrote() with
/// what it would write, without running it: what is read and was not written since is kept. The one that goes on calls
/// the same for operations that it runs, on restore() in place of keep(), and the same values turn up in the same
/// order, whatever memory they lie in by then, and even where a product has become several.
class PausedBatch {
 public:
  PausedBatch() = default;
  /// Left before operation `operation` of the block, counted from 0.
  explicit PausedBatch(int64_t operation) : operation_(operation) {}

  /// Whether there is something to leave out.
  explicit operator bool() const noexcept { return operation_ > 0; }
  int64_t operation() const noexcept { return operation_; }
  /// Sites of the operations that are left, as far as they were told of.
  std::vector<int>& sites() noexcept { return sites_; }
  int64_t bytes() const noexcept { return bytes_; }

  /// The batch becomes empty where x holds codes, or values of both parts.
  void keep(Backend& backend, const Activation& x);
  void restore(Backend& backend, const Activation& x);
  void wrote(const Activation& x) {
    if (operation_ > 0 && x.rows > 0) known_.add(x);
  }
  /// Between the last keep() and the first restore().
  void rewind() noexcept { known_ = {}; }

 private:
  int64_t operation_ = 0;
  int64_t bytes_ = 0;
  std::vector<int> sites_;
  KnownValues known_;
  std::vector<std::vector<float>> values_;
  size_t restored_ = 0;
};

}  // namespace octet

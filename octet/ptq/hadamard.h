// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octet {

/// An orthogonal matrix Q = D · (I ⊗ H / √b) [width, width] that spreads what a few columns hold over many:
///
///   H  a Hadamard matrix of order b, the largest divisor of the width that has one here: a Kronecker product of
///      [1 1; 1 -1] and of Paley's matrices (1933) of orders q + 1 and 2 (q + 1), q prime and below 200, so that 576 =
///      4 · 12 · 12 and 1,536 = 128 · 12 are mixed as a whole, 100 = 5 · 20 in five blocks, and odd widths not at all
///   D  random signs, ±1 by Philox with the seed, as QuaRot has them (Ashkboos et al., 2024)
class HadamardRotation {
 public:
  HadamardRotation(int64_t width, uint64_t seed);

  int64_t width() const noexcept { return static_cast<int64_t>(signs_.size()); }
  int64_t block() const noexcept { return block_; }  ///< b
  /// x = x · Q for a row x of `width` values, `stride` apart.
  void apply(double* x, int64_t stride = 1) const;

 private:
  /// A factor of H: order × order of ±1, row-major.
  struct Factor {
    int64_t order;
    std::vector<int8_t> signs;
  };

  int64_t block_ = 1;
  std::vector<Factor> factors_;
  std::vector<double> signs_;  ///< of D
};

/// A Hadamard matrix of the order, ±1 row-major, of those that are no Kronecker products here: 1, 2 and Paley's; empty
/// where there is none.
std::vector<int8_t> prime_hadamard(int64_t order);

}  // namespace octet

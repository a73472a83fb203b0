// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/workspace.h"

#include <algorithm>

#include "octet/base/checked.h"

namespace octet {
namespace {

constexpr int64_t kAlignment = 64;

}  // namespace

DeviceSpan Workspace::take(int64_t bytes) {
  if (open_scopes_ == 0) fail("workspace memory was asked for outside a scope");
  const int64_t size = round_up(checked_add(bytes, 1), kAlignment);
  // Find the piece in which used_ lies; what does not fit before its end starts in the next one.
  int64_t begin = 0;
  for (const DeviceMemory& piece : pieces_) {
    const int64_t end = begin + piece.span().bytes();
    if (used_ < end) {
      const int64_t first = std::max(used_, begin);
      if (first + size <= end) {
        used_ = first + size;
        count(size);
        return piece.span().slice(first - begin, bytes);
      }
      used_ = end;
    }
    begin = end;
  }
  pieces_.emplace_back(*backend_, std::max(size, begin));  // doubles at least
  used_ = begin + size;
  count(size);
  return pieces_.back().span().slice(0, bytes);
}

void Workspace::count(int64_t size) noexcept {
  taken_ += size;
  most_taken_ = std::max(most_taken_, taken_);
}

Activation Workspace::take_matrix(int64_t rows, int64_t cols, const std::optional<StaticCodes>& codes) {
  Activation matrix{{}, rows, cols, cols, codes};
  matrix.memory = take(checked_mul(checked_mul(rows, cols), matrix.element_bytes()));
  return matrix;
}

int64_t Workspace::bytes() const noexcept {
  int64_t sum = 0;
  for (const DeviceMemory& piece : pieces_) sum += piece.span().bytes();
  return sum;
}

void Workspace::close_scope(int64_t used_before, int64_t taken_before) {
  used_ = used_before;
  taken_ = taken_before;
  if (--open_scopes_ == 0 && pieces_.size() > 1) {
    pieces_.clear();
    pieces_.emplace_back(*backend_, most_taken_);
  }
}

}  // namespace octet

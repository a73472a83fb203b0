// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/paused_batch.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

std::byte* begin_of(const Activation& x) { return x.memory.address(); }

std::byte* end_of(const Activation& x) { return begin_of(x) + ((x.rows - 1) * x.stride + x.cols) * x.element_bytes(); }

bool overlap(const Activation& a, const Activation& b) { return begin_of(a) < end_of(b) && begin_of(b) < end_of(a); }

// Whether every element of `part` is one of `whole`, as far as can be told without looking at single ones.
bool contains(const Activation& whole, const Activation& part) {
  if (begin_of(part) < begin_of(whole) || end_of(part) > end_of(whole)) return false;
  if (whole.cols == whole.stride) return true;
  if (whole.stride != part.stride || whole.element_bytes() != part.element_bytes()) return false;
  const int64_t elements = (begin_of(part) - begin_of(whole)) / whole.element_bytes();
  return elements % whole.stride + part.cols <= whole.cols;
}

}  // namespace

KnownValues::Known KnownValues::find(const Activation& x) const {
  bool some = false;
  for (const Activation& known : known_) {
    if (contains(known, x)) return Known::kYes;
    some = some || overlap(known, x);
  }
  return some ? Known::kPart : Known::kNo;
}

void PausedBatch::keep(Backend& backend, const Activation& x) {
  if (operation_ == 0 || x.rows == 0) return;
  const KnownValues::Known known = known_.find(x);
  if (known == KnownValues::Known::kYes) return;
  if (known == KnownValues::Known::kPart || x.codes) {
    *this = PausedBatch();
    return;
  }
  std::vector<float>& values = values_.emplace_back(static_cast<size_t>(x.rows * x.cols));
  backend.download(x, values);
  bytes_ += std::ssize(values) * int64_t{sizeof(float)};
  known_.add(x);
}

void PausedBatch::restore(Backend& backend, const Activation& x) {
  // What holds values of both parts was not kept: here several operations of the second one wrote it.
  if (operation_ == 0 || x.rows == 0 || known_.find(x) != KnownValues::Known::kNo) return;
  if (restored_ == values_.size() || std::ssize(values_[restored_]) != x.rows * x.cols)
    fail("a block that was left goes on another way than it came");
  const std::vector<float> values = std::exchange(values_[restored_++], {});
  if (x.cols == x.stride) {
    backend.upload(std::as_bytes(std::span(values)), x.memory);
  } else {
    const std::span<const float> all = values;
    for (int64_t r = 0; r < x.rows; ++r) {
      backend.upload(std::as_bytes(all.subspan(static_cast<size_t>(r * x.cols), static_cast<size_t>(x.cols))),
                     x.row_range(r, 1).memory);
    }
  }
  known_.add(x);
}

}  // namespace octet

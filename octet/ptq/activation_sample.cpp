// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/activation_sample.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/base/philox.h"

namespace octet {

ActivationSample::ActivationSample(std::string site, int64_t columns, int64_t most_rows, uint64_t seed)
    : site_(std::move(site)), columns_(columns), most_rows_(most_rows), seed_(seed) {
  if (columns < 1 || most_rows < 1) {
    fail<ShapeError>("site '{}': a sample of {} rows of {} values", site_, most_rows, columns);
  }
  smallest_.assign(static_cast<size_t>(columns), 0.0f);
  largest_ = smallest_;
}

void ActivationSample::add(std::span<const float> rows) {
  if (std::ssize(rows) % columns_ != 0) {
    fail<ShapeError>("site '{}': {} values are no rows of {}", site_, rows.size(), columns_);
  }
  if (const auto bad = first_not_finite(rows)) {
    fail<NumericError>("site '{}': row {} of its input holds {}", site_, seen_ + *bad / columns_,
                       rows[static_cast<size_t>(*bad)]);
  }
  const auto width = static_cast<size_t>(columns_);
  for (; !rows.empty(); rows = rows.subspan(width), ++seen_) {
    const auto row = rows.first(width);
    for (size_t i = 0; i < width; ++i) {
      smallest_[i] = seen_ == 0 ? row[i] : std::min(smallest_[i], row[i]);
      largest_[i] = seen_ == 0 ? row[i] : std::max(largest_[i], row[i]);
    }
    const auto place = static_cast<uint64_t>(seen_);
    const auto bits = philox({static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), 0, 0}, seed_);
    Kept kept{.priority = (uint64_t{bits[0]} << 32) | bits[1], .row = seen_, .place = kept_.size()};
    if (std::cmp_less(kept_.size(), most_rows_)) {
      values_.insert(values_.end(), row.begin(), row.end());
    } else if (kept < kept_.front()) {
      std::pop_heap(kept_.begin(), kept_.end());
      kept.place = kept_.back().place;
      kept_.pop_back();
      std::ranges::copy(row, values_.begin() + static_cast<std::ptrdiff_t>(kept.place * width));
    } else {
      continue;
    }
    kept_.push_back(kept);
    std::push_heap(kept_.begin(), kept_.end());
  }
}

Tensor ActivationSample::rows() const {
  std::vector<Kept> in_order = kept_;
  std::ranges::sort(in_order, {}, &Kept::row);
  Tensor out(DType::kF32, {std::ssize(in_order), columns_});
  auto next = out.mutable_as<float>().begin();
  for (const Kept& kept : in_order) {
    const auto width = static_cast<size_t>(columns_);
    next = std::ranges::copy(std::span(values_).subspan(kept.place * width, width), next).out;
  }
  return out;
}

std::vector<float> ActivationSample::absmax() const {
  std::vector<float> out(smallest_.size());
  std::ranges::transform(smallest_, largest_, out.begin(), [](float low, float high) { return std::max(-low, high); });
  return out;
}

}  // namespace octet

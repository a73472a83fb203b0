// SPDX-License-Identifier: Apache-2.0
#include "octet/data/token_mask.h"

#include <array>

#include "octet/base/error.h"
#include "octet/base/philox.h"

namespace octet {
namespace {

// Where training draws its dropout, the third word is a small number.
constexpr uint32_t kStream = 0x6D61736B;

// 80 and 90 percent of 2^32.
constexpr uint32_t kMaskBelow = 3'435'973'837, kRandomBelow = 3'865'470'566;

}  // namespace

TokenMask::TokenMask(const Tokenizer& tokenizer, double probability) : probability_(probability) {
  const std::optional<int32_t> mask = tokenizer.mask_id();
  if (!mask) {
    fail<UsageError>(
        "the tokenizer names no token that hides another; its tokenizer_config.json needs a 'mask_token'. Only "
        "encoders "
        "have one.");
  }
  mask_ = *mask;
  const Tokenizer::Frame frame = tokenizer.frame();
  special_.assign(static_cast<size_t>(tokenizer.max_id()) + 1, false);
  for (const std::vector<int32_t>* ids : {&frame.before, &frame.after}) {
    for (const int32_t id : *ids) special_[static_cast<size_t>(id)] = true;
  }
  for (int32_t id = 0; id <= tokenizer.max_id(); ++id) {
    const auto place = static_cast<size_t>(id);
    special_[place] = special_[place] || id == mask_ || tokenizer.is_special(id);
    if (!special_[place] && tokenizer.id_to_token(id)) others_.push_back(id);
  }
  if (others_.empty()) fail<UsageError>("the tokenizer has special tokens only");
}

std::vector<int32_t> TokenMask::apply(std::span<int32_t> ids, uint64_t seed, uint32_t step, uint32_t example) const {
  std::vector<int32_t> labels(ids.size(), -1);
  const auto draw = [&](size_t position) {
    return philox({static_cast<uint32_t>(position), example, kStream, step}, seed);
  };
  const auto hide = [&](size_t position, const std::array<uint32_t, 4>& bits) {
    labels[position] = ids[position];
    if (bits[2] < kMaskBelow) {
      ids[position] = mask_;
    } else if (bits[2] < kRandomBelow) {
      ids[position] = others_[static_cast<size_t>(uint64_t{bits[3]} * others_.size() >> 32)];
    }
  };
  // If none is chosen, the one that was nearest to it is.
  double least = 2;
  size_t nearest = 0;
  bool any = false;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (special_[static_cast<size_t>(ids[i])]) continue;
    const std::array<uint32_t, 4> bits = draw(i);
    const double chance = uniform_double(bits[0], bits[1]);
    if (chance < probability_) {
      hide(i, bits);
      any = true;
    } else if (chance < least) {
      least = chance;
      nearest = i;
    }
  }
  if (!any && least < 1) hide(nearest, draw(nearest));
  return labels;
}

}  // namespace octet

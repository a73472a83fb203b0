// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/weight_clips.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// A range does not end nearer to 0 than at this share of its largest weight: none may vanish in one step.
constexpr float kLeastShare = 0.01f;
constexpr int64_t kTaskRanges = 64;

// From 0 to the end of a range.
float steps_of(const WeightScheme& scheme) { return 1 / symmetric_scale(1, scheme); }

float largest_magnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

// Each with its index, in parallel.
void for_ranges(int64_t count, int threads, const auto& body) {
  parallel_for(threads, (count + kTaskRanges - 1) / kTaskRanges, [&](int64_t task, int) {
    for (int64_t i = task * kTaskRanges; i < std::min(count, (task + 1) * kTaskRanges); ++i) body(i);
  });
}

}  // namespace

WeightClips::WeightClips(Trainables& all, const Trainable& weight, const WeightScheme& scheme, const std::string& site)
    : weight_(&weight), scheme_(scheme), width_(scheme.group_size == 0 ? weight.cols() : scheme.group_size) {
  if (scheme.mapping != CodeMapping::kSymmetric) {
    fail<UsageError>(
        "'{}': ranges of weights are learned where codes are symmetric; take weights.symmetric=true, or "
        "weight_clips=fixed",
        site);
  }
  const std::vector<float> values = weight.download(all.backend());
  const QTensor codes =
      quantize_weight({DType::kF32, {weight.rows(), weight.cols()}, reinterpret_cast<const std::byte*>(values.data())},
                      scheme, site, all.backend().threads());
  std::vector<float> clips(codes.scales.as<float>().begin(), codes.scales.as<float>().end());
  for (size_t i = 0; i < clips.size(); ++i) {
    const float largest = largest_magnitude(std::span(values).subspan(i * static_cast<size_t>(width_), width_));
    // A range of all of them is one, whatever rounding makes of it: a run that goes on changes no weight.
    constexpr float kRounding = 1e-6f;
    clips[i] *= steps_of(scheme);
    if (clips[i] > (1 - kRounding) * largest) clips[i] = largest;
  }
  const int64_t of_row = weight.cols() / width_;
  std::vector<TrainedRows> parts;
  for (const TrainedRows& part : weight.parts()) {
    const std::string layer = part.tensor.substr(0, part.tensor.rfind('.'));
    parts.push_back({layer + ".weight_clip", part.first * of_row, part.rows * of_row});
  }
  clips_ = &all.add(std::move(parts), clips, std::ssize(clips), Trainable::Kind::kClip);
  scheme_.range = RangeEstimator::kAbsmax;
}

void WeightClips::apply(Backend& backend, std::span<float> values) const {
  std::vector<float> clips = clips_->download(backend);
  for_ranges(std::ssize(clips), backend.threads(), [&](int64_t i) {
    const std::span<float> range = values.subspan(static_cast<size_t>(i * width_), static_cast<size_t>(width_));
    const float largest = largest_magnitude(range);
    float& clip = clips[static_cast<size_t>(i)];
    clip = std::min(largest, std::max(clip, kLeastShare * largest));
    for (float& value : range) value = std::clamp(value, -clip, clip);
  });
  weight_->upload(backend, values);
  clips_->upload(backend, clips);
}

void WeightClips::add_gradient(Backend& backend, std::span<const float> rounded) const {
  const std::vector<float> values = weight_->download(backend), clips = clips_->download(backend);
  std::vector<float> gradient(values.size()), of_clips(clips.size());
  backend.download(weight_->gradient(), gradient);
  backend.download(clips_->gradient(), of_clips);
  // So that a range moves about as fast, of its own size, as weights do of theirs.
  const float factor = 1 / std::sqrt(static_cast<float>(width_) * steps_of(scheme_));
  for_ranges(std::ssize(clips), backend.threads(), [&](int64_t i) {
    const float clip = clips[static_cast<size_t>(i)];
    if (clip == 0) return;
    double sum = 0;
    for (auto at = static_cast<size_t>(i * width_); at < static_cast<size_t>((i + 1) * width_); ++at) {
      const float inside = std::fabs(values[at]) < clip ? values[at] : 0.0f;
      sum += double{gradient[at]} * (double{rounded[at]} - inside);
    }
    of_clips[static_cast<size_t>(i)] += factor * static_cast<float>(sum / clip);
  });
  backend.upload(std::as_bytes(std::span(of_clips)), clips_->gradient().memory);
}

}  // namespace octet

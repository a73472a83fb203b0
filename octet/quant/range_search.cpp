// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/range_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "octet/base/error.h"
#include "octet/base/log.h"
#include "octet/base/suggest.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct NamedMethod {
  RangeMethod method;
  std::string_view name;
};
constexpr std::array<NamedMethod, 6> kMethods = {{{RangeMethod::kMinMax, "minmax"},
                                                  {RangeMethod::kMovingAverage, "moving_average"},
                                                  {RangeMethod::kPercentile, "percentile"},
                                                  {RangeMethod::kMse, "mse"},
                                                  {RangeMethod::kEntropy, "entropy"},
                                                  {RangeMethod::kBest, "best"}}};

// The mean of x² over an interval.
double mean_square(double low, double high) noexcept { return (low * low + low * high + high * high) / 3; }

// Σ x² of a bin's values.
double energy_of(const ValueBin& bin) noexcept {
  return static_cast<double>(bin.count) * mean_square(bin.low, bin.high);
}

// The share of a bin's values that lie in [low, high].
double share_within(const ValueBin& bin, double low, double high) noexcept {
  if (bin.low == bin.high) return bin.low >= low && bin.low <= high ? 1.0 : 0.0;
  const double from = std::max<double>(low, bin.low), to = std::min<double>(high, bin.high);
  return to > from ? (to - from) / (static_cast<double>(bin.high) - bin.low) : 0.0;
}

// Rounds half to even: 1.5 · 2^52 has ulp 1. Clamping first changes nothing, as both ends are whole.
double nearest_code(double u, const CodeSteps& codes) noexcept {
  constexpr double kRounder = 0x1.8p52;
  return std::clamp(u, codes.lowest, codes.highest) + kRounder - kRounder;
}

// ∫ from 0 to u of (t - code(t))² dt, in steps. A whole step adds 1/12; with k the nearest code and r = u - k, what is
// left from k - 1/2 on is (r³ + 1/8) / 3, and k - 1/2 before it gives k/12 - 1/24: k/12 + r³/3 in all. Beyond the last
// code k stays, and r³ grows as it should.
double error_integral(double u, const CodeSteps& codes) noexcept {
  const double k = nearest_code(u, codes), r = u - k;
  return k / 12 + r * r * r / 3;
}

// In an interval this short, in steps, the integral's difference would lose its digits; it is a point.
constexpr double kPoint = 1e-7;

// Bins by magnitude, both signs together, zeros left out: the inputs of what looks at magnitudes.
std::vector<ValueBin> magnitudes_of(std::span<const ValueBin> bins) {
  std::vector<ValueBin> magnitudes;
  magnitudes.reserve(bins.size());
  for (const ValueBin& bin : bins) {
    if (bin.high < 0 || bin.low < 0) {
      magnitudes.push_back({-bin.high, -bin.low, bin.count});
    } else if (bin.high > 0) {
      magnitudes.push_back(bin);
    }
  }
  std::ranges::sort(magnitudes, [](const ValueBin& a, const ValueBin& b) { return a.low < b.low; });
  return magnitudes;
}

// The value of rank `rank`, from 0 on, of bins that ascend by their lower ends. Where bins overlap (magnitudes of both
// signs in one bin, cut at different extremes), the order within them is that of the list.
double value_at(std::span<const ValueBin> bins, int64_t rank) noexcept {
  for (const ValueBin& bin : bins) {
    if (rank < bin.count) {
      const double place = (static_cast<double>(rank) + 0.5) / static_cast<double>(bin.count);
      return bin.low + (static_cast<double>(bin.high) - bin.low) * place;
    }
    rank -= bin.count;
  }
  return bins.empty() ? 0.0 : bins.back().high;
}

double quantile_of(std::span<const ValueBin> bins, int64_t count, double share) noexcept {
  const double rank = share * static_cast<double>(count - 1);
  const double whole = std::floor(rank);
  const double below = value_at(bins, static_cast<int64_t>(whole));
  if (rank == whole) return below;
  const double above = value_at(bins, static_cast<int64_t>(whole) + 1);
  return below + (above - below) * (rank - whole);
}

Range around_zero(double low, double high) noexcept {
  return {static_cast<float>(std::min(low, 0.0)), static_cast<float>(std::max(high, 0.0))};
}

bool is_symmetric(ActivationMode mode) noexcept { return mode == ActivationMode::kStaticPerTensor; }

float magnitude(Range range) noexcept { return std::max(-range.low, range.high); }

Range percentile_range(const SeenValues& seen, ActivationMode mode, double percentile) {
  const double share = percentile / 100;
  if (!is_symmetric(mode)) return around_zero(seen.quantile(1 - share), seen.quantile(share));
  const auto limit = static_cast<float>(seen.magnitude_quantile(share));
  return {-limit, limit};
}

// Σ error² of a range, of values that are looked at many times. What lies within half a step of 0 has code 0 and an
// error that is its square: such bins, of which there are most, are read from sums made beforehand.
class ErrorOfRange {
 public:
  ErrorOfRange(const SeenValues& seen, ActivationMode mode, int bits)
      : bins_(merged(seen.bins())), mode_(mode), bits_(bits) {
    energy_.resize(bins_.size());
    double sum = 0;
    for (size_t i = 0; i < bins_.size(); ++i) energy_[i] = sum += energy_of(bins_[i]);
  }

  double operator()(Range range) const noexcept {
    const CodeSteps codes(mode_, scale_for(mode_, range, bits_));
    const double half = codes.step / 2;
    const std::span<const ValueBin> bins = bins_;
    const auto first = std::ranges::partition_point(bins, [&](const ValueBin& bin) { return bin.low < -half; });
    const auto last = std::ranges::partition_point(bins, [&](const ValueBin& bin) { return bin.high <= half; });
    if (first >= last) return squared_error(bins, codes);
    const auto from = static_cast<size_t>(first - bins.begin()), to = static_cast<size_t>(last - bins.begin());
    return squared_error(bins.first(from), codes) + (energy_[to - 1] - (from == 0 ? 0.0 : energy_[from - 1])) +
           squared_error(bins.subspan(to), codes);
  }

 private:
  // Bins that touch, or nearly, as one while it is no wider than 2^-9 of its values: a quarter of the work for a search
  // whose minimum is flat.
  static std::vector<ValueBin> merged(std::span<const ValueBin> bins) {
    std::vector<ValueBin> out;
    for (const ValueBin& bin : bins) {
      const bool joins = !out.empty() && (out.back().low > 0 || bin.high < 0) &&
                         bin.high - out.back().low <= 0x1p-9f * std::max(std::abs(bin.low), std::abs(out.back().low));
      if (joins) {
        out.back().high = bin.high;
        out.back().count += bin.count;
      } else {
        out.push_back(bin);
      }
    }
    return out;
  }

  std::vector<ValueBin> bins_;
  ActivationMode mode_;
  int bits_;
  std::vector<double> energy_;  ///< of all bins up to each
};

// Shares of a range that a search tries: 2^(-i/8) down to 2^-12, then, around the best of these, 2^(i/128). The error
// is flat around its minimum, where 2^(1/128), half a percent, is finer than it can tell.
constexpr int kCoarseSteps = 8 * 12, kFineSteps = 16;
constexpr double kCoarseFactor = 0.91700404320467121;  // 2^(-1/8)
constexpr double kFineFactor = 0.99459942348363316;    // 2^(-1/128)

// The share in (0, 1] with the least error; of equals the largest.
template <class Error>
double best_share(const Error& error) {
  double best = 1, least = error(1.0);
  const auto consider = [&](double share) {
    const double found = error(share);
    if (found < least) {
      least = found;
      best = share;
    }
  };
  double share = 1;
  for (int i = 0; i < kCoarseSteps; ++i) consider(share *= kCoarseFactor);
  const double coarse = best;
  share = std::min(1.0, coarse / kCoarseFactor);
  for (int i = 0; i < 2 * kFineSteps && share > coarse * kCoarseFactor; ++i) consider(share *= kFineFactor);
  return best;
}

Range mse_range(const SeenValues& seen, ActivationMode mode, int bits) {
  const ErrorOfRange error(seen, mode, bits);
  const Range all = around_zero(seen.extremes().low, seen.extremes().high);
  if (is_symmetric(mode)) {
    const float largest = magnitude(all);
    const auto of_share = [&](double share) {
      const auto limit = static_cast<float>(largest * share);
      return Range{-limit, limit};
    };
    return of_share(best_share([&](double share) { return error(of_share(share)); }));
  }
  // Both ends together, then one after the other, twice.
  const double both = best_share([&](double share) {
    return error({static_cast<float>(all.low * share), static_cast<float>(all.high * share)});
  });
  Range range{static_cast<float>(all.low * both), static_cast<float>(all.high * both)};
  for (int round = 0; round < 2; ++round) {
    for (const bool high : {true, false}) {
      const auto with = [&](double share) {
        return high ? Range{range.low, static_cast<float>(all.high * share)}
                    : Range{static_cast<float>(all.low * share), range.high};
      };
      if ((high ? all.high : all.low) == 0) continue;
      const Range moved = with(best_share([&](double share) { return error(with(share)); }));
      if (error(moved) < error(range)) range = moved;
    }
  }
  return range;
}

// The procedure of Migacz, "8-bit inference with TensorRT" (GTC 2017): of the thresholds that end at one of the last
// 2048 - levels bins of a histogram of magnitudes, the one for which the distribution P, all beyond it counted in its
// last bin, differs least from Q, that of `levels` codes, each spread evenly over those of its bins that hold any:
// least Σ P log (P / Q). A candidate where Q is 0 and P is not diverges without limit. Zeros, which have a code of
// their own whatever the range, are left out. With n bins below a threshold, bin j belongs to level floor(j · levels /
// n).
float entropy_threshold(const SeenValues& seen, int levels) {
  constexpr int kBins = 2048;
  const double largest = magnitude(seen.extremes());
  if (largest == 0) return 0;
  const double width = largest / kBins;
  std::vector<double> counts(kBins, 0.0);
  for (const ValueBin& bin : magnitudes_of(seen.bins())) {
    const auto place = [&](double x) { return std::clamp(static_cast<int>(x / width), 0, kBins - 1); };
    // A bin, being no wider than these, meets two at most; its values are evenly spread.
    const int first = place(bin.low), last = place(bin.high);
    const double share = first == last ? 1.0 : share_within(bin, bin.low, last * width);
    counts[static_cast<size_t>(first)] += share * static_cast<double>(bin.count);
    if (first != last) counts[static_cast<size_t>(last)] += (1 - share) * static_cast<double>(bin.count);
  }
  // Sums over the bins before each one: of counts, of bins that hold any, of count · log count.
  std::vector<double> before(kBins + 1, 0.0), self(kBins + 1, 0.0);
  std::vector<int> filled(kBins + 1, 0);
  const auto times_log = [](double x) { return x > 0 ? x * log_of_positive(x) : 0.0; };
  for (size_t j = 0; j < kBins; ++j) {
    before[j + 1] = before[j] + counts[j];
    filled[j + 1] = filled[j] + (counts[j] > 0 ? 1 : 0);
    self[j + 1] = self[j] + times_log(counts[j]);
  }
  const double total = before[kBins];
  int best = kBins;
  double least = kInfinity;
  for (int n = levels; n <= kBins; ++n) {
    const auto end = static_cast<size_t>(n);
    const double outliers = total - before[end], last = counts[end - 1];
    if (before[end] == 0 || (last == 0 && outliers > 0)) continue;
    // With counts a, outliers o, a level's sum c over its f filled bins, and N = Σ a + o, M = Σ a:
    // Σ P log P = Σ a' log a' / N - log N, where a' is a, o added to its last;
    // Σ P log Q = (Σ c log (c / f) + o log (c_last / f_last)) / N - log M.
    double cross = 0, log_of_last = 0;
    for (int level = 0; level < levels; ++level) {
      // The first bin of a level is the least j with floor(j · levels / n) = level.
      const auto from = static_cast<size_t>((static_cast<int64_t>(level) * n + levels - 1) / levels);
      const auto to = static_cast<size_t>((static_cast<int64_t>(level + 1) * n + levels - 1) / levels);
      const double sum = before[to] - before[from];
      const int bins = filled[to] - filled[from];
      if (bins == 0) continue;
      log_of_last = log_of_positive(sum / bins);
      cross += sum * log_of_last;
    }
    if (outliers > 0) cross += outliers * log_of_last;
    const double own = self[end] - times_log(last) + times_log(last + outliers);
    const double divergence = (own - cross) / total - log_of_positive(total) + log_of_positive(before[end]);
    if (divergence < least) {
      least = divergence;
      best = n;
    }
  }
  return static_cast<float>(std::min((best + 0.5) * width, largest));
}

Range entropy_range(const SeenValues& seen, ActivationMode mode, int bits) {
  const Range all = seen.extremes();
  // All codes on one side of 0, or half of them on each.
  const bool one_side = !is_symmetric(mode) && (all.low >= 0 || all.high <= 0);
  const float limit = entropy_threshold(seen, 1 << (one_side ? bits : bits - 1));
  if (is_symmetric(mode)) return {-limit, limit};
  return around_zero(std::max(all.low, -limit), std::min(all.high, limit));
}

}  // namespace

std::string_view name(RangeMethod method) noexcept { return kMethods[static_cast<size_t>(method)].name; }

RangeMethod parse_range_method(std::string_view text) {
  std::vector<std::string> known;
  for (const NamedMethod& method : kMethods) {
    if (method.name == text) return method.method;
    known.emplace_back(method.name);
  }
  fail<UsageError>("there is no activation range '{}'.{}", text, did_you_mean(text, known));
}

std::span<const RangeMethod> range_methods() noexcept {
  static constexpr std::array<RangeMethod, 5> kAll = {RangeMethod::kMinMax, RangeMethod::kMovingAverage,
                                                      RangeMethod::kPercentile, RangeMethod::kMse,
                                                      RangeMethod::kEntropy};
  return kAll;
}

SeenValues::SeenValues(std::vector<ValueBin> bins, Range extremes, Range moving_average)
    : bins_(std::move(bins)), extremes_(extremes), moving_average_(moving_average) {
  for (const ValueBin& bin : bins_) {
    count_ += bin.count;
    energy_ += energy_of(bin);
  }
}

double SeenValues::quantile(double share) const { return quantile_of(bins_, count_, share); }

double SeenValues::magnitude_quantile(double share) const {
  const std::vector<ValueBin> magnitudes = magnitudes_of(bins_);
  int64_t zeros = count_;
  for (const ValueBin& bin : magnitudes) zeros -= bin.count;
  std::vector<ValueBin> all;
  all.reserve(magnitudes.size() + 1);
  if (zeros > 0) all.push_back({0.0f, 0.0f, zeros});
  all.insert(all.end(), magnitudes.begin(), magnitudes.end());
  return quantile_of(all, count_, share);
}

CodeSteps::CodeSteps(ActivationMode mode, const ActivationScale& scale) noexcept
    : step(scale.scale), lowest(code_range(mode, scale).lowest), highest(code_range(mode, scale).highest) {}

double squared_error(std::span<const ValueBin> bins, const CodeSteps& codes) noexcept {
  double sum = 0;
  for (const ValueBin& bin : bins) {
    const double low = bin.low / codes.step, high = bin.high / codes.step;
    double mean;
    if (high - low > kPoint) {
      mean = (error_integral(high, codes) - error_integral(low, codes)) / (high - low);
    } else {
      const double u = (low + high) / 2, off = u - nearest_code(u, codes);
      mean = off * off;
    }
    sum += static_cast<double>(bin.count) * mean;
  }
  return sum * codes.step * codes.step;
}

QuantizationLoss quantization_loss(const SeenValues& seen, const CodeSteps& codes) noexcept {
  QuantizationLoss loss;
  const double energy = seen.energy();
  if (seen.count() == 0 || energy == 0) return loss;
  // More than half a step beyond the last code the error is no longer one of rounding.
  const double lowest = (codes.lowest - 0.5) * codes.step, highest = (codes.highest + 0.5) * codes.step;
  const double half = codes.step / 2;
  double clipped = 0, clipped_energy = 0, zeroed = 0, clipping = 0, not_zero = 0;
  const auto clip = [&](double from, double to, double count, double end) {
    clipped += count;
    clipped_energy += count * mean_square(from, to);
    clipping += count * mean_square(from - end, to - end);
  };
  for (const ValueBin& bin : seen.bins()) {
    const auto count = static_cast<double>(bin.count);
    if (bin.low == 0 && bin.high == 0) continue;
    not_zero += count;
    // Where a bin lies on both sides of a border, the part of it beyond.
    const auto beyond = [&](double low, double high) { return count * share_within(bin, low, high); };
    zeroed += beyond(-half, half);
    if (bin.high > highest) {
      const double from = std::max<double>(bin.low, highest);
      clip(from, bin.high, beyond(from, kInfinity), codes.highest * codes.step);
    }
    if (bin.low < lowest) {
      const double to = std::min<double>(bin.high, lowest);
      clip(bin.low, to, beyond(-kInfinity, to), codes.lowest * codes.step);
    }
  }
  loss.clipped_share = clipped / static_cast<double>(seen.count());
  loss.clipped_energy = clipped_energy / energy;
  loss.zeroed_share = not_zero > 0 ? zeroed / not_zero : 0;
  loss.clipping_error = std::sqrt(clipping / energy);
  loss.relative_error = std::sqrt(squared_error(seen.bins(), codes) / energy);
  return loss;
}

ActivationScale scale_for(ActivationMode mode, Range range, int bits) noexcept {
  if (!is_symmetric(mode)) return uint8_scale(range.low, range.high, bits);
  return {.scale = int8_scale(magnitude(range), bits), .zero_point = 0, .bits = bits};
}

Range find_range(const SeenValues& seen, ActivationMode mode, const RangeOptions& options) {
  const auto covered = [&](Range range) {
    const Range found = around_zero(range.low, range.high);
    return is_symmetric(mode) ? Range{-magnitude(found), magnitude(found)} : found;
  };
  switch (options.method) {
    case RangeMethod::kMovingAverage:
      return covered(seen.moving_average());
    case RangeMethod::kPercentile:
      return percentile_range(seen, mode, options.percentile);
    case RangeMethod::kMse:
      return mse_range(seen, mode, options.bits);
    case RangeMethod::kEntropy:
      return entropy_range(seen, mode, options.bits);
    default:
      return covered(seen.extremes());
  }
}

std::vector<HistogramBar> bars_of(const SeenValues& seen, int bars) {
  const double low = seen.extremes().low, high = seen.extremes().high, width = (high - low) / bars;
  if (seen.count() == 0) return {};
  if (width == 0) return {{seen.extremes().low, seen.extremes().high, seen.count()}};
  std::vector<double> counts(static_cast<size_t>(bars), 0.0);
  const auto place = [&](double x) { return std::clamp(static_cast<int>((x - low) / width), 0, bars - 1); };
  for (const ValueBin& bin : seen.bins()) {
    const int first = place(bin.low), last = place(bin.high);
    for (int bar = first; bar <= last; ++bar) {
      const double share = first == last ? 1.0
                                         : share_within(bin, bar == first ? -kInfinity : low + bar * width,
                                                        bar == last ? kInfinity : low + (bar + 1) * width);
      counts[static_cast<size_t>(bar)] += share * static_cast<double>(bin.count);
    }
  }
  std::vector<HistogramBar> out;
  for (int bar = 0; bar < bars; ++bar) {
    out.push_back({static_cast<float>(low + bar * width), static_cast<float>(low + (bar + 1) * width),
                   std::llround(counts[static_cast<size_t>(bar)])});
  }
  return out;
}

RangeEstimate estimate_range(const SeenValues& seen, ActivationMode mode, const RangeOptions& options,
                             std::span<const RangeMethod> offered, const std::string& what) {
  if (!is_static(mode)) fail<UsageError>("{}: a range is for static activations, not for {}", what, to_string(mode));
  if (!(options.percentile >= 99 && options.percentile <= 99.9999)) {
    fail<UsageError>("{}: the percentile {} lies outside of 99 to 99.9999", what, options.percentile);
  }
  if (options.bits < 2 || options.bits > 8)
    fail<UsageError>("{}: codes of {} bits; 2 to 8 are supported", what, options.bits);
  if (seen.count() == 0) fail("{}: no values were seen; calibration data must reach every static site", what);
  if (options.method == RangeMethod::kBest) {
    std::optional<RangeEstimate> best;
    for (const RangeMethod method : offered) {
      RangeEstimate estimate = estimate_range(seen, mode, {method, options.percentile, options.bits}, offered, what);
      if (!best || estimate.loss.relative_error < best->loss.relative_error) best = estimate;
    }
    return best.value();
  }
  if (std::ranges::find(offered, options.method) == offered.end()) {
    fail<UsageError>("{}: the range '{}' is not offered for each channel by itself", what, name(options.method));
  }
  const Range range = find_range(seen, mode, options);
  RangeEstimate estimate{.method = options.method,
                         .low = range.low,
                         .high = range.high,
                         .scale = scale_for(mode, range, options.bits),
                         .loss = {}};
  estimate.loss = quantization_loss(seen, CodeSteps(mode, estimate.scale));
  return estimate;
}

}  // namespace octet

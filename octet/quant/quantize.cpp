// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quantize.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/tensor/half.h"

namespace octet {
namespace {

// 2^(bits - 1): half of the codes; where bytes are signed, what codes with a zero point are less than unsigned ones.
constexpr int half_of(int bits) noexcept { return 1 << (bits - 1); }

constexpr float int8_limit(int bits) noexcept { return static_cast<float>(half_of(bits) - 1); }
// Half of the codes' width: of 4 bits the range [-7.5, 7.5] rounds to [-8, 7] and leaves no code unused.
constexpr float int4_limit(int bits) noexcept { return static_cast<float>(half_of(bits)) - 0.5f; }
constexpr float unsigned_steps(int bits) noexcept { return static_cast<float>(2 * half_of(bits) - 1); }

// SAWB's c₁ and c₂.
struct SawbCoefficients {
  int bits;
  double of_square, of_magnitude;
};
constexpr std::array kSawb = {SawbCoefficients{8, 31.76, 35.04}, SawbCoefficients{7, 28.24, 30.81},
                              SawbCoefficients{5, 17.74, 18.64}, SawbCoefficients{4, 12.68, 12.80},
                              SawbCoefficients{3, 7.509, 6.892}, SawbCoefficients{2, 3.12, 2.064}};

// The largest magnitude, or NaN or infinity if there is one: both survive the maximum of the bit patterns, which for
// non-negative floats are ordered as the floats are.
float absmax_of(std::span<const float> x) noexcept {
  uint32_t largest = 0;
  for (const float value : x) largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

float scale_for(float range, float steps) noexcept {
  return range == 0.0f ? 1.0f : std::max(range / steps, kSmallestScale);
}

// The values of a group are whole steps of `scale`, from `low` to `high`, counted from `minimum`; a code is steps +
// zero_point.
struct Grid {
  float scale, inverse, low, high;
  int8_t zero_point;
  float minimum = 0.0f;
};

// The whole number of steps nearest to x. Clamping comes first, which keeps the rounding in its range and changes
// nothing, as both ends are whole numbers.
float steps(float x, float inverse, float low, float high) noexcept {
  const float scaled = x * inverse;
  const float above = scaled > low ? scaled : low;
  const float clamped = above < high ? above : high;
  // 1.5 · 2^23 has ulp 1, so adding it rounds to an integer, half to even, and it can be taken off again exactly.
  constexpr float kRounder = 0x1.8p23f;
  return clamped + kRounder - kRounder;
}

float steps(float x, const Grid& grid) noexcept { return steps(x, grid.inverse, grid.low, grid.high); }

// Half of x - minimum, which unlike that difference is always finite. Halving is exact, but for subnormal numbers, next
// to which every step is long.
float half_above(float x, float minimum) noexcept { return 0.5f * x - 0.5f * minimum; }

Grid grid_with(const WeightScheme& scheme, float scale, int8_t zero_point, float minimum) noexcept {
  const CodeRange codes = code_range(scheme);
  Grid grid{.scale = scale,
            .inverse = 1.0f / scale,
            .low = static_cast<float>(codes.lowest - zero_point),
            .high = static_cast<float>(codes.highest - zero_point),
            .zero_point = zero_point,
            .minimum = minimum};
  if (scheme.bits == 8 && scheme.mapping == CodeMapping::kSymmetric) grid.low = -grid.high;
  return grid;
}

// What a scale must cover; of a symmetric scheme, -high to high.
struct Range {
  float low, high;
};

Range range_of(std::span<const float> x, CodeMapping mapping) noexcept {
  if (mapping == CodeMapping::kSymmetric) return {0.0f, absmax_of(x)};
  Range range{0.0f, 0.0f};
  if (mapping == CodeMapping::kMinimum && !x.empty()) range = {x[0], x[0]};
  for (const float value : x) {
    range.low = value < range.low ? value : range.low;
    range.high = value > range.high ? value : range.high;
  }
  return range;
}

// What a search tries instead of `range`.
Range shortened(Range range, CodeMapping mapping, int hundredths) noexcept {
  if (mapping != CodeMapping::kMinimum) {
    const float share = static_cast<float>(hundredths) / 100.0f;
    return {range.low * share, range.high * share};
  }
  // Zero may lie outside of the range, so it is the middle that stays.
  const float cut = half_above(range.high, range.low) * (static_cast<float>(kLargestShare - hundredths) / 100.0f);
  return {range.low + cut, range.high - cut};
}

float sawb_clip(std::span<const float> x, int bits, float absmax) noexcept {
  double magnitudes = 0, squares = 0;
  for (const double value : x) {
    magnitudes += std::abs(value);
    squares += value * value;
  }
  const auto count = static_cast<double>(x.size());
  const auto fitted = std::ranges::find(kSawb, bits, &SawbCoefficients::bits);
  if (fitted == kSawb.end()) return absmax;
  const auto clip =
      static_cast<float>(fitted->of_square * std::sqrt(squares / count) - fitted->of_magnitude * (magnitudes / count));
  return clip > 0.0f && clip < absmax ? clip : absmax;
}

Grid grid_for(const WeightScheme& scheme, Range range) noexcept {
  const int bits = scheme.used_bits();
  switch (scheme.mapping) {
    case CodeMapping::kSymmetric:
      return grid_with(scheme, symmetric_scale(range.high, scheme), 0, 0.0f);
    case CodeMapping::kZeroPoint: {
      if (scheme.bits == 8) {
        const ActivationScale unsigned_codes = uint8_scale(range.low, range.high, bits);
        return grid_with(scheme, unsigned_codes.scale, static_cast<int8_t>(unsigned_codes.zero_point - half_of(bits)),
                         0.0f);
      }
      const auto [scale, zero_point] = uint4_scale(range.low, range.high, bits);
      return grid_with(scheme, scale, zero_point, 0.0f);
    }
    case CodeMapping::kMinimum:
      break;
  }
  return grid_with(scheme, minimum_scale(range.low, range.high, bits), 0, range.low);
}

// By how far a value is off, or, counted from a minimum, by half of that: which of two grids is better it tells as
// well, and it cannot overflow.
template <CodeMapping mapping>
float difference(float x, const Grid& grid) noexcept {
  if constexpr (mapping != CodeMapping::kMinimum) return x - steps(x, grid) * grid.scale;
  const float half = half_above(x, grid.minimum);
  return half - steps(half, 2.0f * grid.inverse, grid.low, grid.high) * (0.5f * grid.scale);
}

// Eight partial sums, folded at the end. The compiler makes vectors of both inner loops, of one loop with both it does
// not.
template <CodeMapping mapping>
double squared_error(std::span<const float> x, const Grid& found) noexcept {
  constexpr size_t kLanes = 8, kStrip = 256;
  const Grid grid = found;  // nothing written below can change this one
  std::array<float, kStrip> differences;
  std::array<double, kLanes> sums{};
  for (size_t first = 0; first < x.size(); first += kStrip) {
    const size_t count = std::min(kStrip, x.size() - first);
    for (size_t i = 0; i < count; ++i) differences[i] = difference<mapping>(x[first + i], grid);
    size_t padded = count;
    while (padded % kLanes != 0) differences[padded++] = 0.0f;
    for (size_t i = 0; i < padded; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const double difference = differences[i + lane];
        sums[lane] += difference * difference;
      }
    }
  }
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

Grid find_grid(std::span<const float> x, const WeightScheme& scheme) noexcept {
  const CodeMapping mapping = scheme.mapping;
  const auto error_of = [mapping](std::span<const float> values, const Grid& grid) {
    return mapping == CodeMapping::kMinimum ? squared_error<CodeMapping::kMinimum>(values, grid)
                                            : squared_error<CodeMapping::kZeroPoint>(values, grid);
  };
  const auto square_of = [mapping](float value, const Grid& grid) {
    const double off = mapping == CodeMapping::kMinimum ? difference<CodeMapping::kMinimum>(value, grid)
                                                        : difference<CodeMapping::kZeroPoint>(value, grid);
    return off * off;
  };
  Range range = range_of(x, mapping);
  if (scheme.range == RangeEstimator::kSawb) range.high = sawb_clip(x, scheme.used_bits(), range.high);
  Grid best = grid_for(scheme, range);
  if (scheme.range != RangeEstimator::kMse) return best;
  double least = error_of(x, best);
  if (least == 0) return best;
  const auto [lowest, highest] = std::ranges::minmax(x);
  const int smallest = smallest_share(scheme);
  for (int hundredths = kLargestShare - 1; hundredths >= smallest && least > 0; --hundredths) {
    const Grid grid = grid_for(scheme, shortened(range, mapping, hundredths));
    // Short ranges cut the ends off, which alone may be too much.
    if (std::max(square_of(lowest, grid), square_of(highest, grid)) >= least) continue;
    const double error = error_of(x, grid);
    if (error < least) {
      least = error;
      best = grid;
    }
  }
  return best;
}

// The code of x, counted from a minimum.
int8_t code_above(float x, float inverse, float minimum, float highest) noexcept {
  return static_cast<int8_t>(steps(half_above(x, minimum), 2.0f * inverse, 0.0f, highest));
}

void encode(std::span<const float> x, const Grid& grid, CodeMapping mapping, int8_t* codes) noexcept {
  if (mapping == CodeMapping::kMinimum) {
    std::transform(x.begin(), x.end(), codes,
                   [inverse = grid.inverse, minimum = grid.minimum, highest = grid.high](float value) {
                     return code_above(value, inverse, minimum, highest);
                   });
    return;
  }
  std::transform(x.begin(), x.end(), codes, [&grid](float value) {
    return static_cast<int8_t>(steps(value, grid) + static_cast<float>(grid.zero_point));
  });
}

GroupGrid to_group_grid(const Grid& grid) noexcept { return {grid.scale, grid.zero_point, grid.minimum}; }

void check_matrix(ConstTensorView weight, const std::string& what) {
  if (weight.shape.rank() != 2) {
    fail<ShapeError>("{}: shape {}; a weight has two dimensions", what, to_string(weight.shape));
  }
}

// Calls quantize_row(values, row) for every row of a weight, widened, in any order. Throws NumericError where the
// weight holds NaN or infinity.
template <class Body>
void for_each_row(ConstTensorView weight, int64_t work_per_value, const std::string& what, int threads, Body&& body) {
  // A thread is worth its start from about 50 µs on, which is 2^16 values that are rounded once.
  constexpr int64_t kWorkPerTask = 1 << 16;
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  const int64_t rows_per_task = std::max<int64_t>(1, kWorkPerTask / std::max<int64_t>(1, cols * work_per_value));
  std::atomic<int64_t> first_bad{rows};
  parallel_for(threads == 0 ? available_threads() : threads, (rows + rows_per_task - 1) / rows_per_task,
               [&](int64_t task, int) {
                 std::vector<float> values(static_cast<size_t>(cols));
                 const int64_t end = std::min(rows, (task + 1) * rows_per_task);
                 for (int64_t row = task * rows_per_task; row < end; ++row) {
                   read_f32(weight, row * cols, values);
                   if (std::isfinite(absmax_of(values))) {
                     body(std::span<const float>(values), row);
                     continue;
                   }
                   // The message must not depend on the order of the threads.
                   int64_t known = first_bad.load();
                   while (row < known && !first_bad.compare_exchange_weak(known, row)) {
                   }
                 }
               });
  if (const int64_t row = first_bad.load(); row < rows) {
    std::vector<float> values(static_cast<size_t>(cols));
    read_f32(weight, row * cols, values);
    fail<NumericError>("{}: output channel {} holds {}", what, row, absmax_of(values));
  }
}

int64_t group_width(const WeightScheme& scheme, int64_t cols) {
  return scheme.group_size == 0 ? cols : scheme.group_size;
}

// Those of a tensor that may have none.
template <class T>
std::span<const T> elements_of(const Tensor& tensor) {
  return tensor.bytes() == 0 ? std::span<const T>() : tensor.as<T>();
}

// The steps of a quantized weight, group by group in row-major order.
class Steps {
 public:
  explicit Steps(const QTensor& weight)
      : scales_(weight.scales.as<float>()),
        zero_points_(elements_of<int8_t>(weight.zero_points)),
        minima_(elements_of<float>(weight.minima)) {}
  float scale(int64_t group) const { return scales_[group]; }
  int8_t zero_point(int64_t group) const { return zero_points_.empty() ? int8_t{0} : zero_points_[group]; }
  float minimum(int64_t group) const { return minima_.empty() ? 0.0f : minima_[group]; }
  Grid grid(const WeightScheme& scheme, int64_t group) const {
    return grid_with(scheme, scale(group), zero_point(group), minimum(group));
  }

 private:
  std::span<const float> scales_;
  std::span<const int8_t> zero_points_;
  std::span<const float> minima_;
};

}  // namespace

float int8_scale(float absmax, int bits) noexcept { return scale_for(absmax, int8_limit(bits)); }

float int4_scale(float absmax, int bits) noexcept { return scale_for(absmax, int4_limit(bits)); }

float symmetric_scale(float absmax, const WeightScheme& scheme) noexcept {
  return scheme.bits == 8 ? int8_scale(absmax, scheme.used_bits()) : int4_scale(absmax, scheme.used_bits());
}

float minimum_scale(float low, float high, int bits) noexcept {
  const float range = high - low, count = unsigned_steps(bits);
  return std::isfinite(range) ? scale_for(range, count) : high / count - low / count;
}

int8_t int8_code(float x, float inverse, int bits) noexcept {
  return static_cast<int8_t>(steps(x, inverse, -int8_limit(bits), int8_limit(bits)));
}

int8_t int4_code(float x, float inverse, int bits) noexcept {
  const auto half = static_cast<float>(half_of(bits));
  return static_cast<int8_t>(steps(x, inverse, -half, half - 1));
}

ScaleAndZeroPoint uint4_scale(float low, float high, int bits) noexcept {
  const float scale = minimum_scale(low, high, bits);
  return {scale, static_cast<int8_t>(steps(-low / scale, 1.0f, 0.0f, unsigned_steps(bits)))};
}

int8_t uint4_code(float x, float inverse, int8_t zero_point, int bits) noexcept {
  const auto zero = static_cast<float>(zero_point);
  return static_cast<int8_t>(steps(x, inverse, -zero, unsigned_steps(bits) - zero) + zero);
}

int8_t minimum_code(float x, float inverse, float minimum, int bits) noexcept {
  return code_above(x, inverse, minimum, unsigned_steps(bits));
}

ActivationScale uint8_scale(float low, float high, int bits) noexcept {
  const float scale = minimum_scale(low, high, bits);
  return {scale, static_cast<int>(steps(-low / scale, 1.0f, 0.0f, unsigned_steps(bits))), bits};
}

uint8_t uint8_code(float x, float inverse, int zero_point, int bits) noexcept {
  const auto zero = static_cast<float>(zero_point);
  return static_cast<uint8_t>(steps(x, inverse, -zero, unsigned_steps(bits) - zero) + zero);
}

bool has_sawb(int used_bits) noexcept {
  return std::ranges::find(kSawb, used_bits, &SawbCoefficients::bits) != kSawb.end();
}

CodeRange chosen_codes(const WeightScheme& scheme) noexcept {
  const Grid grid = grid_with(scheme, 1.0f, 0, 0.0f);
  return {static_cast<int>(grid.low), static_cast<int>(grid.high)};
}

GroupGrid find_group_grid(std::span<const float> values, const WeightScheme& scheme) noexcept {
  return to_group_grid(find_grid(values, scheme));
}

GroupGrid shortened_group_grid(std::span<const float> values, const WeightScheme& scheme, int hundredths) noexcept {
  return to_group_grid(grid_for(scheme, shortened(range_of(values, scheme.mapping), scheme.mapping, hundredths)));
}

void encode_group(std::span<const float> values, const GroupGrid& grid, const WeightScheme& scheme,
                  std::span<int8_t> codes) noexcept {
  encode(values, grid_with(scheme, grid.scale, grid.zero_point, grid.minimum), scheme.mapping, codes.data());
}

double decode(int8_t code, const GroupGrid& grid) noexcept {
  // Exact but for the addition of a minimum: 9 bits by 24 fit in 53.
  return double{grid.scale} * (code - grid.zero_point) + double{grid.minimum};
}

QTensor make_qtensor(const WeightScheme& scheme, int64_t rows, int64_t cols) {
  const Shape per_group{rows, scheme.groups(cols)};
  QTensor out{scheme, Tensor(DType::kI8, {rows, cols}), Tensor(DType::kF32, per_group)};
  if (scheme.mapping == CodeMapping::kZeroPoint) out.zero_points = Tensor(DType::kI8, per_group);
  if (scheme.mapping == CodeMapping::kMinimum) out.minima = Tensor(DType::kF32, per_group);
  if (scheme.reordered) out.group_index = Tensor(DType::kI32, {cols});
  return out;
}

void set_group_grid(QTensor& tensor, int64_t row, int64_t group, const GroupGrid& grid) {
  const int64_t at = row * tensor.groups() + group;
  tensor.scales.mutable_as<float>()[at] = grid.scale;
  if (tensor.scheme.mapping == CodeMapping::kZeroPoint) tensor.zero_points.mutable_as<int8_t>()[at] = grid.zero_point;
  if (tensor.scheme.mapping == CodeMapping::kMinimum) tensor.minima.mutable_as<float>()[at] = grid.minimum;
}

GroupGrid group_grid(const QTensor& tensor, int64_t row, int64_t group) {
  const int64_t at = row * tensor.groups() + group;
  const Steps steps_of(tensor);
  return {steps_of.scale(at), steps_of.zero_point(at), steps_of.minimum(at)};
}

std::vector<int32_t> group_of_columns(const QTensor& tensor) {
  const int64_t cols = tensor.cols(), width = group_width(tensor.scheme, cols);
  std::vector<int32_t> groups(static_cast<size_t>(cols));
  if (tensor.scheme.reordered) {
    std::ranges::copy(tensor.group_index.as<int32_t>(), groups.begin());
    return groups;
  }
  for (int64_t i = 0; i < cols; ++i) groups[i] = static_cast<int32_t>(i / width);
  return groups;
}

float quantize_row(std::span<const float> x, std::span<int8_t> codes) {
  if (x.size() != codes.size()) fail<ShapeError>("{} values into {} codes", x.size(), codes.size());
  const float absmax = absmax_of(x);
  if (!std::isfinite(absmax)) fail<NumericError>("a row to quantize holds {}", absmax);
  const Grid grid = grid_with({}, int8_scale(absmax), 0, 0.0f);
  encode(x, grid, CodeMapping::kSymmetric, codes.data());
  return grid.scale;
}

namespace {

bool fits_half(float value) noexcept { return std::isfinite(to_float(to_half(value))); }

void check_outliers_fit(const WeightScheme& scheme, std::span<const int32_t> columns, int64_t inputs,
                        const std::string& what) {
  if (scheme.outliers == columns.empty()) {
    fail<ShapeError>("{}: {} outlier columns for a scheme with{} any", what, columns.size(),
                     scheme.outliers ? "" : "out");
  }
  check_outlier_columns(columns, inputs, what);
}

}  // namespace

DType outlier_dtype(std::span<const int32_t> columns, ConstTensorView weight) {
  if (weight.dtype == DType::kBF16) return DType::kBF16;
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  for (int64_t row = 0; row < rows; ++row) {
    for (const int32_t column : columns) {
      float value = 0;
      read_f32(weight, row * cols + column, {&value, 1});
      if (!fits_half(value)) return DType::kBF16;
    }
  }
  return DType::kF16;
}

void set_outliers(QTensor& tensor, std::span<const int32_t> columns, ConstTensorView weight, const std::string& what) {
  const int64_t rows = tensor.rows(), cols = tensor.cols(), count = std::ssize(columns);
  const DType dtype = outlier_dtype(columns, weight);
  tensor.scheme.outliers = true;
  tensor.outlier_columns = Tensor(DType::kI32, {count});
  std::ranges::copy(columns, tensor.outlier_columns.mutable_as<int32_t>().begin());
  tensor.outliers = Tensor(dtype, {rows, count});
  const std::vector<int32_t> group_of = group_of_columns(tensor);
  const bool zero_points = tensor.scheme.mapping == CodeMapping::kZeroPoint;
  int8_t* codes = tensor.codes.mutable_as<int8_t>().data();
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t row = 0; row < rows; ++row, codes += cols) {
    read_f32(weight, row * cols, values);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t column = columns[i];
      codes[column] =
          zero_points ? tensor.zero_points.as<int8_t>()[row * tensor.groups() + group_of[column]] : int8_t{0};
      if (dtype == DType::kF16) {
        tensor.outliers.mutable_as<Half>()[row * count + i] = to_half(values[column]);
      } else {
        tensor.outliers.mutable_as<BFloat16>()[row * count + i] = to_bfloat16(values[column]);
      }
      if (!std::isfinite(outlier_value(tensor, row, i))) {
        fail<NumericError>("{}: output channel {} holds {}, which 16 bits have no place for", what, row,
                           values[column]);
      }
    }
  }
}

std::vector<int32_t> outlier_places(const QTensor& tensor) {
  std::vector<int32_t> places(static_cast<size_t>(tensor.cols()), -1);
  int32_t place = 0;
  for (const int32_t column : tensor.outlier_indices()) places[column] = place++;
  return places;
}

float outlier_value(const QTensor& tensor, int64_t row, int64_t place) {
  const int64_t at = row * tensor.outliers.shape()[1] + place;
  return tensor.outliers.dtype() == DType::kF16 ? to_float(tensor.outliers.as<Half>()[at])
                                                : to_float(tensor.outliers.as<BFloat16>()[at]);
}

QTensor quantize_weight(ConstTensorView weight, const WeightScheme& scheme, const std::string& what, int threads,
                        std::span<const int32_t> outlier_columns) {
  check_matrix(weight, what);
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  check(scheme, cols, what);
  if (scheme.reordered) fail<ShapeError>("{}: which columns are a group is not known without data", what);
  check_outliers_fit(scheme, outlier_columns, cols, what);
  if (scheme.range == RangeEstimator::kSawb && !has_sawb(scheme.used_bits()))
    fail<ShapeError>("{}: SAWB has no coefficients for {} bits", what, scheme.used_bits());
  const int64_t groups = scheme.groups(cols), width = group_width(scheme, cols);
  QTensor out = make_qtensor(scheme, rows, cols);
  int8_t* codes = out.codes.mutable_as<int8_t>().data();
  const int64_t tries = scheme.range == RangeEstimator::kMse ? kLargestShare - smallest_share(scheme) + 2 : 1;
  for_each_row(weight, tries, what, threads, [&](std::span<const float> values, int64_t row) {
    for (int64_t g = 0; g < groups; ++g) {
      const auto group = values.subspan(static_cast<size_t>(g * width), static_cast<size_t>(width));
      const Grid grid = outlier_columns.empty()
                            ? find_grid(group, scheme)
                            : find_grid(without_outliers(group, g * width, outlier_columns), scheme);
      set_group_grid(out, row, g, to_group_grid(grid));
      encode(group, grid, scheme.mapping, codes + row * cols + g * width);
    }
  });
  if (!outlier_columns.empty()) set_outliers(out, outlier_columns, weight, what);
  return out;
}

std::vector<float> without_outliers(std::span<const float> values, int64_t first, std::span<const int32_t> columns) {
  std::vector<float> out;
  auto next = std::ranges::lower_bound(columns, first);
  for (size_t i = 0; i < values.size(); ++i) {
    if (next != columns.end() && *next == first + static_cast<int64_t>(i)) {
      ++next;
    } else {
      out.push_back(values[i]);
    }
  }
  return out;
}

Tensor quantize_codes(ConstTensorView weight, const QTensor& grid, const std::string& what, int threads) {
  check_matrix(weight, what);
  const WeightScheme& scheme = grid.scheme;
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  check(scheme, cols, what);
  const int64_t groups = scheme.groups(cols), width = group_width(scheme, cols);
  const Shape per_group{rows, groups};
  if (grid.scales.shape() != per_group ||
      (scheme.mapping == CodeMapping::kZeroPoint && grid.zero_points.shape() != per_group) ||
      (scheme.mapping == CodeMapping::kMinimum && grid.minima.shape() != per_group)) {
    fail<ShapeError>("{}: scales of shape {} for a weight of shape {}", what, to_string(grid.scales.shape()),
                     to_string(weight.shape));
  }
  check_group_index(grid, cols, what);
  Tensor out(DType::kI8, weight.shape);
  int8_t* codes = out.mutable_as<int8_t>().data();
  const Steps steps_of(grid);
  const std::span<const int32_t> group_of = elements_of<int32_t>(grid.group_index);
  for_each_row(weight, 1, what, threads, [&](std::span<const float> values, int64_t row) {
    if (scheme.reordered) {
      std::vector<Grid> grids;
      for (int64_t g = 0; g < groups; ++g) grids.push_back(steps_of.grid(scheme, row * groups + g));
      for (int64_t i = 0; i < cols; ++i) {
        encode(values.subspan(i, 1), grids[group_of[i]], scheme.mapping, codes + row * cols + i);
      }
      return;
    }
    for (int64_t g = 0; g < groups; ++g) {
      const auto group = values.subspan(static_cast<size_t>(g * width), static_cast<size_t>(width));
      encode(group, steps_of.grid(scheme, row * groups + g), scheme.mapping, codes + row * cols + g * width);
    }
  });
  return out;
}

namespace {

// Calls body(row, column, steps, scale, minimum) for every element, row-major; that of an outlier is (1, value, 0).
template <class Body>
void for_each_value(const QTensor& tensor, Body&& body) {
  const int64_t rows = tensor.rows(), cols = tensor.cols(), groups = tensor.groups();
  const int8_t* codes = tensor.codes.as<int8_t>().data();
  const Steps steps_of(tensor);
  const std::vector<int32_t> group_of = group_of_columns(tensor), outlier_at = outlier_places(tensor);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      if (outlier_at[col] >= 0) {
        ++codes;
        body(row, col, 1, outlier_value(tensor, row, outlier_at[col]), 0.0f);
        continue;
      }
      const int64_t at = row * groups + group_of[col];
      body(row, col, *codes++ - steps_of.zero_point(at), steps_of.scale(at), steps_of.minimum(at));
    }
  }
}

}  // namespace

Tensor dequantize(const QTensor& tensor) {
  Tensor out(DType::kF32, tensor.codes.shape());
  float* values = out.mutable_as<float>().data();
  if (tensor.scheme.mapping == CodeMapping::kMinimum) {
    for_each_value(tensor, [&values](int64_t, int64_t, int steps, float scale, float minimum) {
      *values++ = std::fma(static_cast<float>(steps), scale, minimum);
    });
  } else {
    for_each_value(tensor, [&values](int64_t, int64_t, int steps, float scale, float) {
      *values++ = static_cast<float>(steps) * scale;
    });
  }
  return out;
}

double relative_error(ConstTensorView weight, const QTensor& quantized) {
  if (weight.shape != quantized.codes.shape()) fail<ShapeError>("the error of a weight against one of another shape");
  std::vector<float> row(static_cast<size_t>(quantized.cols()));
  double error = 0, norm = 0;
  for_each_value(quantized, [&](int64_t r, int64_t c, int steps, float scale, float minimum) {
    if (c == 0) read_f32(weight, r * quantized.cols(), row);
    const double value = row[c], difference = value - (double{scale} * steps + double{minimum});
    error += difference * difference;
    norm += value * value;
  });
  return norm > 0 ? std::sqrt(error / norm) : 0.0;
}

}  // namespace octet

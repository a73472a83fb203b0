// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/range_estimator.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/quant/quantize.h"
#include "octet/quant/range_search.h"

namespace octet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Range kNothing = {kInfinity, -kInfinity};

// A thread is worth its start from about 50 µs on, which is 2^15 values that are counted.
constexpr int64_t kValuesPerTask = 1 << 15;

void widen(Range& range, Range by) noexcept {
  range.low = std::min(range.low, by.low);
  range.high = std::max(range.high, by.high);
}

// The smallest and the largest value, or none for NaN or infinity.
std::optional<Range> extremes_of(std::span<const float> row) noexcept {
  Range range = kNothing;
  bool finite = true;
  for (const float value : row) {
    range.low = value < range.low ? value : range.low;
    range.high = value > range.high ? value : range.high;
    finite &= std::abs(value) <= std::numeric_limits<float>::max();
  }
  return finite ? std::optional(range) : std::nullopt;
}

// The exponential moving average of the extremes of batches of rows, the weights of the batches seen scaled to add up
// to 1 (as Kingma and Ba, 2015, correct theirs), or else the first batch would count more than all others.
class MovingAverage {
 public:
  explicit MovingAverage(int64_t batch_rows) : batch_rows_(batch_rows) {}

  void add_row(Range row) noexcept {
    widen(batch_, row);
    if (++rows_ < batch_rows_) return;
    add_batch();
  }
  /// With the batch that is not full yet, if there is one.
  Range value() const noexcept {
    MovingAverage all = *this;
    if (rows_ > 0) all.add_batch();
    return {static_cast<float>(all.low_ / all.weight_), static_cast<float>(all.high_ / all.weight_)};
  }

 private:
  // A batch's weight beside those before it, as PyTorch's observer of that name has it.
  static constexpr double kNewest = 0.01;

  void add_batch() noexcept {
    low_ += kNewest * (batch_.low - low_);
    high_ += kNewest * (batch_.high - high_);
    weight_ += kNewest * (1 - weight_);
    batch_ = kNothing;
    rows_ = 0;
  }

  int64_t batch_rows_, rows_ = 0;
  Range batch_ = kNothing;
  double low_ = 0, high_ = 0, weight_ = 0;
};

struct Squares {
  double error = 0, energy = 0;
};

// What dynamic INT8 does to a row. Eight partial sums, folded at the end, so that it vectorizes.
Squares dynamic_error(std::span<const float> row, Range extremes) noexcept {
  constexpr size_t kLanes = 8;
  // 1.5 · 2^23 has ulp 1: adding it rounds to a whole number.
  constexpr float kRounder = 0x1.8p23f;
  const float scale = int8_scale(std::max(-extremes.low, extremes.high)), inverse = 1.0f / scale;
  std::array<double, kLanes> errors{}, energies{};
  const auto add = [&](size_t i, size_t lane) {
    const float x = row[i];
    const double error = x - ((x * inverse + kRounder) - kRounder) * scale;
    errors[lane] += error * error;
    energies[lane] += double{x} * double{x};
  };
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < row.size(); ++i) add(i, i % kLanes);
  Squares sum;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    sum.error += errors[lane];
    sum.energy += energies[lane];
  }
  return sum;
}

// Checks what `add` is given and returns the number of rows; `known` columns, 0 before the first call.
int64_t rows_of(std::span<const float> values, int64_t columns, int64_t known, const std::string& site) {
  if (columns < 1 || std::ssize(values) % columns != 0) {
    fail<ShapeError>("site '{}': {} values are no rows of {}", site, values.size(), columns);
  }
  if (known != 0 && columns != known) {
    fail<ShapeError>("site '{}': rows of {} values after rows of {}", site, columns, known);
  }
  return std::ssize(values) / columns;
}

[[noreturn]] void fail_at_row(const std::string& site, int64_t row, std::span<const float> values) {
  const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
  fail<NumericError>("site '{}': row {} of its input holds {} in column {}; no range covers that", site, row, *bad,
                     bad - values.begin());
}

// The extremes of every row, in any order of rows. Throws NumericError for the first row that is not finite, counted
// from `rows_before`.
std::vector<Range> extremes_of_rows(std::span<const float> values, int64_t columns, int64_t rows, int64_t rows_before,
                                    int threads, const std::string& site) {
  std::vector<Range> extremes(static_cast<size_t>(rows));
  std::atomic<int64_t> first_bad{rows};
  const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / columns);
  parallel_for(threads, (rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) {
      const auto found = extremes_of(values.subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns)));
      if (found) {
        extremes[static_cast<size_t>(row)] = *found;
        continue;
      }
      // The message must not depend on the order of the threads.
      int64_t known = first_bad.load();
      while (row < known && !first_bad.compare_exchange_weak(known, row)) {
      }
    }
  });
  if (const int64_t row = first_bad.load(); row < rows) {
    fail_at_row(site, rows_before + row,
                values.subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns)));
  }
  return extremes;
}

int64_t check_batch(int64_t batch_rows, const std::string& site) {
  if (batch_rows < 1) fail<UsageError>("site '{}': batches of {} rows; at least 1 is needed", site, batch_rows);
  return batch_rows;
}

Range or_zero(Range extremes, int64_t rows) noexcept { return rows == 0 ? Range{} : extremes; }

}  // namespace

struct ActivationRangeEstimator::State {
  State(std::string of_site, int64_t batch_rows, int most_threads)
      : site(std::move(of_site)),
        threads(most_threads == 0 ? available_threads() : most_threads),
        histograms(static_cast<size_t>(threads)),
        moving_average(check_batch(batch_rows, site)) {}

  SeenValues seen() const {
    ValueHistogram all(11);
    for (const ValueHistogram& histogram : histograms) all.merge(histogram);
    return {all.bins(extremes.low, extremes.high), or_zero(extremes, rows),
            rows == 0 ? Range{} : moving_average.value()};
  }

  std::string site;
  int threads;
  std::vector<ValueHistogram> histograms;  ///< one a thread
  int64_t rows = 0, columns = 0;
  Range extremes = kNothing;
  MovingAverage moving_average;
  Squares dynamic;
};

ActivationRangeEstimator::ActivationRangeEstimator(std::string site, int64_t batch_rows, int threads)
    : state_(std::make_unique<State>(std::move(site), batch_rows, threads)) {}
ActivationRangeEstimator::ActivationRangeEstimator(ActivationRangeEstimator&&) noexcept = default;
ActivationRangeEstimator& ActivationRangeEstimator::operator=(ActivationRangeEstimator&&) noexcept = default;
ActivationRangeEstimator::~ActivationRangeEstimator() = default;

void ActivationRangeEstimator::add(std::span<const float> values, int64_t columns) {
  State& state = *state_;
  const int64_t rows = rows_of(values, columns, state.columns, state.site);
  const std::vector<Range> extremes = extremes_of_rows(values, columns, rows, state.rows, state.threads, state.site);
  std::vector<Squares> squares(static_cast<size_t>(rows));
  const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / columns);
  parallel_for(state.threads, (rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int worker) {
    ValueHistogram& histogram = state.histograms[static_cast<size_t>(worker)];
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) {
      const auto of_row = values.subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns));
      for (const float value : of_row) histogram.add(value);
      squares[static_cast<size_t>(row)] = dynamic_error(of_row, extremes[static_cast<size_t>(row)]);
    }
  });
  for (size_t row = 0; row < extremes.size(); ++row) {
    widen(state.extremes, extremes[row]);
    state.moving_average.add_row(extremes[row]);
    state.dynamic.error += squares[row].error;
    state.dynamic.energy += squares[row].energy;
  }
  state.rows += rows;
  state.columns = columns;
}

const std::string& ActivationRangeEstimator::site() const noexcept { return state_->site; }
int64_t ActivationRangeEstimator::rows() const noexcept { return state_->rows; }
int64_t ActivationRangeEstimator::columns() const noexcept { return state_->columns; }
float ActivationRangeEstimator::smallest() const noexcept { return or_zero(state_->extremes, state_->rows).low; }
float ActivationRangeEstimator::largest() const noexcept { return or_zero(state_->extremes, state_->rows).high; }

double ActivationRangeEstimator::dynamic_relative_error() const noexcept {
  const Squares& sums = state_->dynamic;
  return sums.energy > 0 ? std::sqrt(sums.error / sums.energy) : 0.0;
}

RangeEstimate ActivationRangeEstimator::estimate(ActivationMode mode, const RangeOptions& options) const {
  return estimate_range(state_->seen(), mode, options, range_methods(), fmt::format("site '{}'", state_->site));
}

std::vector<RangeEstimate> ActivationRangeEstimator::estimates(ActivationMode mode, double percentile, int bits) const {
  const SeenValues seen = state_->seen();
  const std::string what = fmt::format("site '{}'", state_->site);
  std::vector<RangeEstimate> all;
  for (const RangeMethod method : range_methods()) {
    all.push_back(estimate_range(seen, mode, {method, percentile, bits}, range_methods(), what));
  }
  return all;
}

QuantizationLoss ActivationRangeEstimator::measure(ActivationMode mode, const ActivationScale& scale) const {
  return quantization_loss(state_->seen(), CodeSteps(mode, scale));
}

std::vector<HistogramBar> ActivationRangeEstimator::histogram(int bars) const {
  if (bars < 1) fail<UsageError>("site '{}': a histogram of {} bars", state_->site, bars);
  const SeenValues seen = state_->seen();
  return bars_of(seen, bars);
}

struct ChannelRangeEstimator::State {
  struct Channel {
    explicit Channel(int64_t batch_rows) : moving_average(batch_rows) {}

    ValueHistogram histogram{6};
    Range extremes = kNothing;
    MovingAverage moving_average;
  };

  State(std::string of_site, int64_t rows_of_batch, int most_threads)
      : site(std::move(of_site)),
        threads(most_threads == 0 ? available_threads() : most_threads),
        batch_rows(check_batch(rows_of_batch, site)) {}

  std::string site;
  int threads;
  int64_t batch_rows;
  int64_t rows = 0;
  std::vector<Channel> channels;
};

ChannelRangeEstimator::ChannelRangeEstimator(std::string site, int64_t batch_rows, int threads)
    : state_(std::make_unique<State>(std::move(site), batch_rows, threads)) {}
ChannelRangeEstimator::ChannelRangeEstimator(ChannelRangeEstimator&&) noexcept = default;
ChannelRangeEstimator& ChannelRangeEstimator::operator=(ChannelRangeEstimator&&) noexcept = default;
ChannelRangeEstimator::~ChannelRangeEstimator() = default;

void ChannelRangeEstimator::add(std::span<const float> values, int64_t columns) {
  State& state = *state_;
  const int64_t rows = rows_of(values, columns, std::ssize(state.channels), state.site);
  extremes_of_rows(values, columns, rows, state.rows, state.threads, state.site);
  while (std::ssize(state.channels) < columns) state.channels.emplace_back(state.batch_rows);
  // A cache line's columns at a time, so that threads do not share lines.
  constexpr int64_t kColumnsPerTask = 16;
  parallel_for(state.threads, (columns + kColumnsPerTask - 1) / kColumnsPerTask, [&](int64_t task, int) {
    const int64_t first = task * kColumnsPerTask, last = std::min(columns, first + kColumnsPerTask);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = first; column < last; ++column) {
        const float value = values[static_cast<size_t>(row * columns + column)];
        State::Channel& channel = state.channels[static_cast<size_t>(column)];
        channel.histogram.add(value);
        widen(channel.extremes, {value, value});
        channel.moving_average.add_row({value, value});
      }
    }
  });
  state.rows += rows;
}

int64_t ChannelRangeEstimator::rows() const noexcept { return state_->rows; }
int64_t ChannelRangeEstimator::columns() const noexcept { return std::ssize(state_->channels); }

std::vector<RangeEstimate> ChannelRangeEstimator::estimate(ActivationMode mode, const RangeOptions& options) const {
  const State& state = *state_;
  const std::string what = fmt::format("site '{}'", state.site);
  if (state.rows == 0) fail("{}: no values were seen", what);
  static constexpr std::array<RangeMethod, 4> kOffered = {RangeMethod::kMinMax, RangeMethod::kMovingAverage,
                                                          RangeMethod::kPercentile, RangeMethod::kMse};
  std::vector<RangeEstimate> estimates(state.channels.size());
  parallel_for(state.threads, std::ssize(estimates), [&](int64_t i, int) {
    const State::Channel& channel = state.channels[static_cast<size_t>(i)];
    const SeenValues seen(channel.histogram.bins(channel.extremes.low, channel.extremes.high), channel.extremes,
                          channel.moving_average.value());
    estimates[static_cast<size_t>(i)] = estimate_range(seen, mode, options, kOffered, what);
  });
  return estimates;
}

}  // namespace octet

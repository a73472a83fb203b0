// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/product_timing.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <random>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/cpu.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/nn/workspace.h"

namespace octet {
namespace {

constexpr int64_t kLargestCache = 16 << 20;
constexpr const char* kSeparator = " | kernels ";

// Everything but the product that a time depends on.
std::string kernels_of(const Backend& backend) {
  return cpu_features().name + " | " + backend.describe() + kSeparator + OCTET_KERNEL_VERSION;
}

std::string machine_of(const std::string& kernels) { return kernels.substr(0, kernels.rfind(kSeparator)); }

// A power of two, so that models of about a size share their times.
int64_t working_set(const ProductShape& shape) {
  constexpr int64_t kLeast = int64_t{1} << 20, kMost = int64_t{64} << 20;
  const int64_t asked = shape.weights_in_turn == 0 ? kMost : std::clamp(shape.weights_in_turn, kLeast, kMost);
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(asked)));
}

std::string key_of(const ProductShape& shape) {
  return fmt::format("{} × {} → {} of {} MiB, {}", shape.rows, shape.inputs, shape.outputs, working_set(shape) >> 20,
                     shape.scheme ? to_string(*shape.scheme) : "float " + std::string(name(shape.float_dtype)));
}

void fill(std::span<int8_t> codes, int low, int high) {
  std::mt19937 generator(1);
  for (int8_t& code : codes)
    code = static_cast<int8_t>(low + static_cast<int>(generator() % static_cast<uint32_t>(high - low + 1)));
}

QTensor random_weight(const ProductShape& shape) {
  QTensor weight{
      .scheme = shape.scheme->weight, .codes = Tensor(DType::kI8, {shape.outputs, shape.inputs}), .scales = {}};
  const bool signed_codes = weight.scheme.mapping == CodeMapping::kSymmetric || weight.scheme.bits == 8;
  fill(weight.codes.mutable_as<int8_t>(), signed_codes ? (weight.scheme.bits == 8 ? -127 : -8) : 0,
       signed_codes ? (weight.scheme.bits == 8 ? 127 : 7) : 15);
  const Shape groups{shape.outputs, weight.scheme.groups(shape.inputs)};
  weight.scales = Tensor(DType::kF32, groups);
  std::ranges::fill(weight.scales.mutable_as<float>(), 0.01f);
  if (weight.scheme.mapping == CodeMapping::kZeroPoint) weight.zero_points = Tensor(DType::kI8, groups);
  if (weight.scheme.mapping == CodeMapping::kMinimum) weight.minima = Tensor(DType::kF32, groups);
  return weight;
}

// Copies enough to take up the working set.
std::vector<std::unique_ptr<PackedWeight>> pack_copies(Backend& backend, const ProductShape& shape) {
  constexpr int64_t kMostCopies = 128;
  QTensor codes;
  Tensor floats;
  if (shape.scheme) {
    codes = random_weight(shape);
  } else {
    floats = Tensor(shape.float_dtype, {shape.outputs, shape.inputs});
  }
  const auto pack = [&] {
    const QTensor* const quantized[] = {&codes};
    const ConstTensorView values[] = {floats.view()};
    return shape.scheme ? backend.pack(quantized, shape.scheme->activations) : backend.pack(values);
  };
  std::vector<std::unique_ptr<PackedWeight>> copies;
  copies.push_back(pack());
  const int64_t count =
      std::clamp<int64_t>(working_set(shape) / std::max<int64_t>(1, copies.front()->bytes()), 1, kMostCopies);
  while (std::ssize(copies) < count) copies.push_back(pack());
  return copies;
}

}  // namespace

TimingCache::TimingCache(std::filesystem::path file) : file_(std::move(file)) {
  if (!std::filesystem::exists(file_)) return;
  try {
    const nlohmann::json json = parse_json(read_text_file(file_, kLargestCache), file_.string());
    const auto check_object = [&](const nlohmann::json& value) {
      if (!value.is_object()) fail<FormatError>("{}: an object is needed, not {}", file_.string(), value.type_name());
    };
    check_object(json);
    for (const auto& [kernels, products] : json.items()) {
      check_object(products);
      for (const auto& [product, milliseconds] : products.items()) {
        const double value = milliseconds.get<double>();
        if (!(value > 0) || !std::isfinite(value)) fail<FormatError>("{}: a time of {} ms", file_.string(), value);
        times_[kernels][product] = value;
      }
    }
  } catch (const std::exception& error) {
    times_.clear();
    notes_.push_back(fmt::format("the cache of timings is damaged and was not used: {}", error.what()));
  }
}

std::optional<double> TimingCache::find(const std::string& kernels, const std::string& product) const {
  const auto products = times_.find(kernels);
  if (products == times_.end()) return std::nullopt;
  const auto time = products->second.find(product);
  return time == products->second.end() ? std::nullopt : std::optional(time->second);
}

void TimingCache::add(const std::string& kernels, const std::string& product, double milliseconds) {
  std::erase_if(times_, [&](const auto& entry) {
    return entry.first != kernels && machine_of(entry.first) == machine_of(kernels);
  });
  times_[kernels][product] = milliseconds;
  changed_ = true;
}

void TimingCache::save() {
  if (!changed_) return;
  try {
    std::filesystem::create_directories(file_.parent_path());
    OutputFile file(file_);
    file.write(json_text(nlohmann::json(times_), 1) + "\n");
    file.commit();
    changed_ = false;
  } catch (const std::exception& error) {
    notes_.push_back(fmt::format("timings could not be kept for the next time: {}", error.what()));
  }
}

std::optional<std::filesystem::path> default_timing_cache() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  const auto given = [](const char* value) { return value != nullptr && *value != '\0'; };
  if (!given(cache) && !given(home)) return std::nullopt;
  const std::filesystem::path folder =
      given(cache) ? std::filesystem::path(cache) : std::filesystem::path(home) / ".cache";
  return folder / "octet" / "product_timings.json";
}

double ProductTimer::time(const ProductShape& shape) {
  const std::string key = key_of(shape);
  if (const auto known = known_.find(key); known != known_.end()) return known->second;
  const std::string kernels = kernels_of(backend_);
  std::optional<double> time = cache_ == nullptr ? std::nullopt : cache_->find(kernels, key);
  if (!time) {
    time = measure(shape);
    ++measured_;
    if (cache_ != nullptr) cache_->add(kernels, key, *time);
  }
  known_[key] = *time;
  return *time;
}

double ProductTimer::measure(const ProductShape& shape) const {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 5;
  constexpr double kRoundMs = 4;
  const std::vector<std::unique_ptr<PackedWeight>> copies = pack_copies(backend_, shape);
  Workspace workspace(backend_);
  const Workspace::Scope scope(workspace);
  const Activation x = workspace.take_matrix(shape.rows, shape.inputs);
  const Activation y = workspace.take_matrix(shape.rows, shape.outputs);
  std::vector<float> values(static_cast<size_t>(shape.rows * shape.inputs));
  std::mt19937 generator(2);
  for (float& value : values) value = static_cast<float>(generator() % 2001) * 1e-3f - 1;
  backend_.upload(std::as_bytes(std::span(values)), x.memory);
  size_t next = 0;
  // The mean of as many products as take so many milliseconds, one at least.
  const auto round = [&](double milliseconds) {
    const Clock::time_point start = Clock::now();
    double elapsed = 0;
    int64_t count = 0;
    do {
      backend_.linear({.x = x, .weight = copies[next].get(), .y = y});
      next = (next + 1) % copies.size();
      ++count;
      elapsed = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    } while (elapsed < milliseconds);
    return elapsed / static_cast<double>(count);
  };
  round(0);  // the first grows memory of its own
  double fastest = INFINITY;
  for (int i = 0; i < kRounds; ++i) fastest = std::min(fastest, round(kRoundMs));
  // A clock's tick at least, as a time of 0 says nothing.
  return std::max(fastest, 1e-6);
}

}  // namespace octet

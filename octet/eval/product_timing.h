// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

/// A product of a model: y [rows, outputs] = x [rows, inputs] · Wᵀ.
struct ProductShape {
  int64_t rows = 0, inputs = 0, outputs = 0;
  std::optional<Scheme> scheme;     ///< of W; none: float, in
  DType float_dtype = DType::kF32;  ///< this type
  /// Bytes of weights that are read in turn, of which W is one: as many as the model has, which decides whether a cache
  /// holds them. 0: 64 MiB, more than any core's cache.
  int64_t weights_in_turn = 0;
};

/// Times of products by the machine, backend and version of the kernels that they are of, in a JSON file.
class TimingCache {
 public:
  /// Reads `file`; one that is not there is empty, one that is damaged is treated so and said in notes().
  explicit TimingCache(std::filesystem::path file);

  std::optional<double> find(const std::string& kernels, const std::string& product) const;
  void add(const std::string& kernels, const std::string& product, double milliseconds);
  /// Writes what was added, whole or not at all, in place of the file; why it could not is said in notes(). Times of
  /// other versions of the kernels of this machine are dropped.
  void save();

  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::filesystem::path file_;
  std::map<std::string, std::map<std::string, double>> times_;  ///< by kernels, by product
  std::vector<std::string> notes_;
  bool changed_ = false;
};

/// $XDG_CACHE_HOME/octet/product_timings.json, else in ~/.cache; none where neither place is known.
std::optional<std::filesystem::path> default_timing_cache();

/// Times products with weights of random codes, which take turns as those of a model do: of several rounds the fastest.
class ProductTimer {
 public:
  /// `cache` may be null; both must outlive it.
  ProductTimer(Backend& backend, TimingCache* cache) : backend_(backend), cache_(cache) {}

  /// Milliseconds.
  double time(const ProductShape& shape);
  int64_t measured() const noexcept { return measured_; }  ///< others were in the cache

 private:
  double measure(const ProductShape& shape) const;

  Backend& backend_;
  TimingCache* cache_;
  std::map<std::string, double> known_;
  int64_t measured_ = 0;
};

}  // namespace octet

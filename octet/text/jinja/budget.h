// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace octet::jinja {

/// What an operation on values cannot do. The interpreter adds the template and its line.
class OperationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One whose place in the template is known.
class LocatedError : public OperationError {
 public:
  LocatedError(int at, const std::string& message) : OperationError(message), line(at) {}
  int line;
};

/// How much one rendering may take; templates come from strangers.
struct Limits {
  int64_t steps = 10'000'000;                 ///< nodes evaluated, items made and, in 64s, bytes of text read
  int64_t output_bytes = int64_t{64} << 20;   ///< printed, by macros and blocks that are captured too
  int64_t memory_bytes = int64_t{256} << 20;  ///< of values alive at once
  int depth = 600;                            ///< evaluations inside one another, of which a macro's call takes about 5
};

/// One level deeper for as long as this lives. Throws OperationError below the deepest.
class Deeper {
 public:
  Deeper(int& depth, int deepest) : depth_(depth) {
    if (depth >= deepest) throw OperationError("too many calls or expressions inside one another");
    ++depth_;
  }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
  ~Deeper() { --depth_; }

 private:
  int& depth_;
};

/// Keeps count against Limits. Throws OperationError where one is passed.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  void step(int64_t count = 1);
  /// For reading or writing so many bytes of text.
  void work(size_t bytes) { step(1 + static_cast<int64_t>(bytes / 64)); }
  void print(size_t bytes);
  /// Throws where `bytes` more could not be held: to be asked before something large is made.
  void expect(size_t bytes) const;
  void hold(size_t bytes);
  void release(size_t bytes) noexcept { held_ -= static_cast<int64_t>(bytes); }
  /// For what evaluates by recursion.
  Deeper deeper() { return Deeper(depth_, limits_.depth); }

 private:
  Limits limits_;
  int64_t steps_ = 0, printed_ = 0, held_ = 0;
  int depth_ = 0;
};

/// Bytes held for as long as this lives.
class Charge {
 public:
  Charge() = default;
  Charge(Budget& budget, size_t bytes) : budget_(&budget), bytes_(bytes) { budget.hold(bytes); }
  Charge(Charge&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
  Charge& operator=(Charge&&) = delete;
  ~Charge() {
    if (budget_ != nullptr) budget_->release(bytes_);
  }

 private:
  Budget* budget_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace octet::jinja

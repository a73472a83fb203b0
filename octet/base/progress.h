// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace octet {

/// A line on stderr that says how far a long task is, at what rate and for how long still. It is drawn only on a
/// terminal and only from the second half second on; destroyed, it leaves a clean line.
class Progress {
 public:
  /// e.g. Progress("quantizing", 36, "layers")
  Progress(std::string what, int64_t total, std::string unit);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void advance(int64_t by = 1);
  /// What stands at the end of the line from the next drawing on: "loss 0.31".
  void say(std::string text) { text_ = std::move(text); }
  /// Takes the line away until the next drawing, so that something else can be printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now);

  std::string what_, unit_, text_;
  int64_t total_, done_ = 0;
  Clock::time_point start_, drawn_;
  bool terminal_, visible_ = false;
};

}  // namespace octet

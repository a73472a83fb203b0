// SPDX-License-Identifier: Apache-2.0
#include "octet/base/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace octet {
namespace {

constexpr auto kFirstDraw = std::chrono::milliseconds(500);
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr int kBarWidth = 20;

std::string bar(double share) {
  const int filled = static_cast<int>(share * kBarWidth);
  std::string cells;
  for (int i = 0; i < kBarWidth; ++i) cells += i < filled ? "━" : "╌";
  return cells;
}

}  // namespace

Progress::Progress(std::string what, int64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      start_(Clock::now()),
      drawn_(start_),
      terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (visible_) std::fputs("\r\033[K", stderr);
}

void Progress::advance(int64_t by) {
  done_ = std::min(done_ + by, total_);
  if (!terminal_) return;
  const Clock::time_point now = Clock::now();
  if (now - drawn_ >= (visible_ ? kRedraw : kFirstDraw)) draw(now);
}

void Progress::draw(Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done_) / seconds;
  const double left = static_cast<double>(total_ - done_) / std::max(rate, 1e-9);
  fmt::print(stderr, "\r\033[K{}  {}  {}/{} {}  {:.1f}/s  {:.0f} s left  {}", what_,
             bar(static_cast<double>(done_) / static_cast<double>(total_)), done_, total_, unit_, rate, left, text_);
  std::fflush(stderr);
  drawn_ = now;
  visible_ = true;
}

}  // namespace octet

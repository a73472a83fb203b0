// SPDX-License-Identifier: Apache-2.0
#include "octet/train/event_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include <event.pb.h>
#include <fcntl.h>
#include <unistd.h>

#include "octet/base/error.h"
#include "octet/quant/value_histogram.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

// What a byte does to the remainder, for the polynomial 0x1EDC6F41 with its bits reversed.
constexpr std::array<uint32_t, 256> kRemainders = [] {
  std::array<uint32_t, 256> remainders{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82F63B78u : 0u);
    remainders[byte] = remainder;
  }
  return remainders;
}();

template <class T>
void append_little_endian(std::string& bytes, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes.push_back(static_cast<char>((value >> (8 * i)) & 0xFF));
}

std::span<const std::byte> last_bytes(const std::string& bytes, size_t count) {
  return std::as_bytes(std::span(bytes).last(count));
}

// Seconds since 1970 for the name of the next file: now, but after every file that is there, whatever the clock did.
int64_t time_for_name(const fs::path& folder) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  int64_t time = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  constexpr size_t kDigits = 10;
  std::error_code reason;
  for (fs::directory_iterator entry(folder, reason); entry != fs::directory_iterator(); entry.increment(reason)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string digits = name.substr(kPrefix.size(), kDigits);
    if (digits.size() != kDigits || !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) continue;
    const int64_t theirs = std::stoll(digits);
    if (theirs < 9'999'999'999) time = std::max(time, theirs + 1);  // one digit more would sort before it
  }
  if (reason) fail("{}: cannot read this folder: {}", folder.string(), reason.message());
  return time;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  std::string host = name.data();
  std::ranges::replace(host, '/', '_');
  return host;
}

tensorboard::Event event_of(int64_t step) {
  tensorboard::Event event;
  event.set_wall_time(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  event.set_step(step);
  return event;
}

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes) noexcept {
  uint32_t remainder = ~0u;
  for (const std::byte byte : bytes) {
    remainder = (remainder >> 8) ^ kRemainders[(remainder ^ std::to_integer<uint32_t>(byte)) & 0xFF];
  }
  return ~remainder;
}

uint32_t masked_crc32c(std::span<const std::byte> bytes) noexcept { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

EventFile::EventFile(const fs::path& folder, int64_t first_step) : flushed_(std::chrono::steady_clock::now()) {
  // Several processes may begin at once.
  constexpr int kTries = 100;
  int64_t time = time_for_name(folder);
  for (int i = 0; descriptor_ < 0; ++i, ++time) {
    path_ = folder / fmt::format("{}{:010}.{}.{}", kPrefix, time, host_name(), ::getpid());
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && (errno != EEXIST || i == kTries)) {
      fail("{}: cannot write here: {}", path_.string(), std::strerror(errno));
    }
  }
  // From version 2 on TensorBoard takes a start that is not the first for a run that goes on at that step.
  tensorboard::Event version = event_of(0);
  version.set_file_version("brain.Event:2");
  add(version.SerializeAsString());
  tensorboard::Event start = event_of(first_step);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  add(start.SerializeAsString());
}

EventFile::~EventFile() {
  try {
    flush();
  } catch (const Error&) {
  }
  ::close(descriptor_);
}

void EventFile::scalar(std::string_view tag, int64_t step, double value) {
  tensorboard::Event event = event_of(step);
  tensorboard::Summary::Value& summary = *event.mutable_summary()->add_value();
  summary.set_tag(tag.data(), tag.size());
  summary.set_simple_value(static_cast<float>(value));
  add(event.SerializeAsString());
}

void EventFile::histogram(std::string_view tag, int64_t step, std::span<const float> values) {
  constexpr int kBits = 2;
  ValueHistogram counts(kBits);
  float smallest = std::numeric_limits<float>::max(), largest = std::numeric_limits<float>::lowest();
  double sum = 0, squares = 0;
  int64_t finite = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    counts.add(value);
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
    sum += value;
    squares += double{value} * value;
    ++finite;
  }
  if (finite < std::ssize(values)) {
    scalar(std::string(tag) + "/not_finite", step, static_cast<double>(std::ssize(values) - finite));
  }
  if (finite == 0) return;

  tensorboard::Event event = event_of(step);
  tensorboard::Summary::Value& summary = *event.mutable_summary()->add_value();
  summary.set_tag(tag.data(), tag.size());
  tensorboard::Histogram& histogram = *summary.mutable_histo();
  histogram.set_min(smallest);
  histogram.set_max(largest);
  histogram.set_num(static_cast<double>(finite));
  histogram.set_sum(sum);
  histogram.set_sum_squares(squares);
  double end = smallest;
  for (const ValueBin& bin : counts.bins(smallest, largest)) {
    if (bin.low > end) {
      histogram.add_bucket_limit(bin.low);
      histogram.add_bucket(0);
    }
    histogram.add_bucket_limit(bin.high);
    histogram.add_bucket(static_cast<double>(bin.count));
    end = bin.high;
  }
  add(event.SerializeAsString());
}

void EventFile::add(const std::string& event) {
  const bool due = std::chrono::steady_clock::now() - flushed_ >= kFlushAfter;
  if (due || records_.size() + event.size() > kLargestBuffer) flush();
  append_little_endian(records_, uint64_t{event.size()});
  append_little_endian(records_, masked_crc32c(last_bytes(records_, sizeof(uint64_t))));
  records_ += event;
  append_little_endian(records_, masked_crc32c(last_bytes(records_, event.size())));
}

void EventFile::flush() {
  flushed_ = std::chrono::steady_clock::now();
  // At its place in the file: where a writing failed in the middle, the next one begins at the same record.
  size_t done = 0;
  while (done < records_.size()) {
    const ssize_t written = ::pwrite(descriptor_, records_.data() + done, records_.size() - done, written_ + done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    done += static_cast<size_t>(written);
  }
  written_ += static_cast<int64_t>(done);
  records_.clear();
}

}  // namespace octet

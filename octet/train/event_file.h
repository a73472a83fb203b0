// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace octet {

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4) of bytes.
uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

/// The checksum of TFRecord files: crc32c, rotated and moved by a constant, so that a checksum over data that holds
/// checksums stays one.
uint32_t masked_crc32c(std::span<const std::byte> bytes) noexcept;

/// Numbers of a running training in the form that TensorBoard reads: one file
/// events.out.tfevents.<seconds>.<host>.<pid> of TFRecords (length, its checksum, data, its checksum; little-endian),
/// each an Event of event.proto.
///
/// A run that goes on opens another file in the same folder; TensorBoard reads them in the order of their names, which
/// is that of their making, and forgets of the earlier ones the steps from `first_step` on. Records are kept in memory
/// until one is added kFlushAfter after the last writing, or until there are kLargestBuffer bytes of them. A killed
/// process loses those, and may leave half a record at the end, which TensorBoard skips.
///
/// For one thread at a time. Throws Error, which names the file, where it cannot be made or written; a full disk loses
/// nothing that a later flush() can still write.
class EventFile {
 public:
  static constexpr std::chrono::seconds kFlushAfter{5};
  static constexpr size_t kLargestBuffer = size_t{1} << 20;

  /// Makes the file in `folder`, which must be there; never one that was there.
  EventFile(const std::filesystem::path& folder, int64_t first_step);
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  /// Writes what is left; a failure is not told, which flush() would.
  ~EventFile();

  /// `value` becomes a float, as TensorBoard's scalars are.
  void scalar(std::string_view tag, int64_t step, double value);
  /// Counts `values` in at most 2049 buckets, four to each power of two and sign. What is not finite is left out, and
  /// its number becomes the scalar TAG/not_finite. No values give no histogram.
  void histogram(std::string_view tag, int64_t step, std::span<const float> values);
  void flush();

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  void add(const std::string& event);

  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t written_ = 0;
  std::string records_;  ///< not yet written
  std::chrono::steady_clock::time_point flushed_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/train/event_file.h"

#include <bit>
#include <limits>
#include <numeric>

#include "octet/text/protobuf_reader.h"
#include "tests/io/scratch.h"
#include "tests/train/full_disk.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

uint32_t crc_of(std::string_view bytes) { return crc32c(std::as_bytes(std::span(bytes))); }

// The check value of the polynomial's definition, and the vectors of RFC 3720, appendix B.4.
TEST(Crc32c, IsWhatTheStandardSays) {
  EXPECT_EQ(crc_of(""), 0u);
  EXPECT_EQ(crc_of("123456789"), 0xE3069283u);
  EXPECT_EQ(crc_of(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc_of(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string ascending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  EXPECT_EQ(crc_of(ascending), 0x46DD794Eu);
  EXPECT_EQ(masked_crc32c({}), 0xA282EAD8u);
}

struct ReadEvent {
  int64_t step = 0;
  double wall_time = 0;
  std::string version, tag;
  bool starts = false;
  std::optional<float> scalar;
  double smallest = 0, largest = 0, count = 0, sum = 0, squares = 0;
  std::vector<double> limits, buckets;
};

template <class To>
To value_at(std::string_view bytes, size_t at) {
  To value{};
  std::memcpy(&value, bytes.substr(at).substr(0, sizeof(To)).data(), sizeof(To));
  return value;
}

std::vector<double> doubles(std::string_view bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  for (size_t i = 0; i < values.size(); ++i) values[i] = value_at<double>(bytes, i * sizeof(double));
  return values;
}

void read_value(ProtobufReader summary, ReadEvent& event) {
  for (ProtobufReader::Field field; summary.next(field);) {
    if (field.number == 1) event.tag = field.bytes;
    if (field.number == 2) event.scalar = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (field.number != 5) continue;
    ProtobufReader histogram = summary.inside(field);
    for (ProtobufReader::Field part; histogram.next(part);) {
      if (part.number == 6) event.limits = doubles(part.bytes);
      if (part.number == 7) event.buckets = doubles(part.bytes);
      double* const numbers[] = {&event.smallest, &event.largest, &event.count, &event.sum, &event.squares};
      if (part.number <= 5) *numbers[part.number - 1] = std::bit_cast<double>(part.value);
    }
  }
}

// The records of a file, read by the definition of TFRecord and of the messages, not by what wrote them.
std::vector<ReadEvent> read(std::string_view bytes) {
  std::vector<ReadEvent> events;
  while (!bytes.empty()) {
    const auto length = value_at<uint64_t>(bytes, 0);
    if (length + 16 > bytes.size()) throw FormatError("a record has no end");
    EXPECT_EQ(value_at<uint32_t>(bytes, 8), masked_crc32c(std::as_bytes(std::span(bytes.substr(0, 8)))));
    const std::string_view data = bytes.substr(12, length);
    EXPECT_EQ(value_at<uint32_t>(bytes, 12 + length), masked_crc32c(std::as_bytes(std::span(data))));
    ReadEvent event;
    ProtobufReader reader(data, "event");
    for (ProtobufReader::Field field; reader.next(field);) {
      if (field.number == 1) event.wall_time = std::bit_cast<double>(field.value);
      if (field.number == 2) event.step = static_cast<int64_t>(field.value);
      if (field.number == 3) event.version = field.bytes;
      ProtobufReader::Field inner;
      if (field.number == 5) {
        ProtobufReader summary = reader.inside(field);
        while (summary.next(inner)) read_value(summary.inside(inner), event);
      }
      if (field.number == 7) event.starts = reader.inside(field).next(inner) && inner.number == 1 && inner.value == 1;
    }
    events.push_back(std::move(event));
    bytes.remove_prefix(16 + length);
  }
  return events;
}

class EventFolder : public ScratchFolder {
 protected:
  static std::string bytes(const EventFile& file) {
    return files_in(file.path().parent_path()).at(file.path().filename());
  }
};

TEST_F(EventFolder, BeginsWithItsVersionAndTheStepOfItsStart) {
  EventFile file(folder_, 7);
  EXPECT_THAT(file.path().filename().string(),
              testing::MatchesRegex("events\\.out\\.tfevents\\.[0-9]{10}\\..+\\.[0-9]+"));
  file.flush();
  const std::vector<ReadEvent> events = read(bytes(file));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.7e9);
  EXPECT_TRUE(events[1].starts);
  EXPECT_EQ(events[1].step, 7);
}

TEST_F(EventFolder, HoldsScalarsAsFloats) {
  EventFile file(folder_, 0);
  file.scalar("loss", 1, 2.3);
  file.scalar("loss", int64_t{1} << 40, -std::numeric_limits<double>::infinity());
  file.scalar("a tag/größe", 2, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(bytes(file), "");
  file.flush();
  const std::vector<ReadEvent> events = read(bytes(file));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[2].tag, "loss");
  EXPECT_EQ(events[2].step, 1);
  EXPECT_EQ(events[2].scalar, 2.3f);
  EXPECT_EQ(events[3].step, int64_t{1} << 40);
  EXPECT_EQ(events[3].scalar, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(events[4].tag, "a tag/größe");
  EXPECT_TRUE(std::isnan(events[4].scalar.value()));
}

TEST_F(EventFolder, CountsEveryValueInABucketThatHoldsIt) {
  std::vector<float> values = {0, 0, 1, -1, 3e-20f, 1e30f, -0.26f, -0.26f, std::numeric_limits<float>::max()};
  for (int i = 0; i < 5000; ++i)
    values.push_back(std::sin(static_cast<float>(i)) * std::exp(static_cast<float>(i % 40 - 30)));
  EventFile file(folder_, 0);
  file.histogram("gradients", 3, values);
  file.flush();
  const ReadEvent event = read(bytes(file)).at(2);
  EXPECT_EQ(event.tag, "gradients");
  EXPECT_EQ(event.step, 3);
  std::ranges::sort(values);
  EXPECT_EQ(event.smallest, values.front());
  EXPECT_EQ(event.largest, values.back());
  EXPECT_EQ(event.count, values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value, squares += value * value;
  EXPECT_NEAR(event.sum / sum, 1, 1e-12);
  EXPECT_NEAR(event.squares / squares, 1, 1e-12);

  ASSERT_EQ(event.limits.size(), event.buckets.size());
  ASSERT_LE(event.limits.size(), 2049u);
  EXPECT_EQ(event.limits.back(), event.largest);
  EXPECT_EQ(std::accumulate(event.buckets.begin(), event.buckets.end(), 0.0), values.size());
  // A value on a limit may be counted on either side of it.
  for (size_t i = 0; i < event.limits.size(); ++i) {
    const double low = i == 0 ? event.smallest : event.limits[i - 1], high = event.limits[i];
    ASSERT_LE(low, high) << i;
    const auto inside = std::ranges::count_if(values, [&](float value) { return low < value && value < high; });
    const auto around = std::ranges::count_if(values, [&](float value) { return low <= value && value <= high; });
    EXPECT_GE(event.buckets[i], inside) << low << ' ' << high;
    EXPECT_LE(event.buckets[i], around) << low << ' ' << high;
  }
}

TEST_F(EventFolder, TellsWhatAHistogramCannotHold) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  EventFile file(folder_, 0);
  file.histogram("none", 1, {});
  file.histogram("lost", 1, std::vector{kNaN, kInfinity});
  file.histogram("some", 1, std::vector{kNaN, 2.0f, -kInfinity, -kNaN, 2.0f});
  file.flush();
  const std::vector<ReadEvent> events = read(bytes(file));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[2].tag, "lost/not_finite");
  EXPECT_EQ(events[2].scalar, 2);
  EXPECT_EQ(events[3].tag, "some/not_finite");
  EXPECT_EQ(events[3].scalar, 3);
  EXPECT_EQ(events[4].tag, "some");
  EXPECT_THAT(events[4].limits, ElementsAre(2));
  EXPECT_THAT(events[4].buckets, ElementsAre(2));
}

TEST_F(EventFolder, KeepsNoMoreInMemoryThanItSaysAndWritesTheRestWhenItEnds) {
  std::filesystem::path path;
  {
    EventFile file(folder_, 0);
    path = file.path();
    for (int i = 0; i < 100'000; ++i) file.scalar("loss", i, i);
    const size_t written = bytes(file).size();
    EXPECT_GT(written, 2 * EventFile::kLargestBuffer);
    EXPECT_EQ(read(bytes(file)).back().step, static_cast<int64_t>(read(bytes(file)).size()) - 3);  // whole records
  }
  EXPECT_EQ(read(files_in(folder_).at(path.filename())).size(), 100'002u);
}

// TensorBoard reads the files of a folder in the order of their names.
TEST_F(EventFolder, GetsANameAfterAllOthersWhateverTheClockSays) {
  write("events.out.tfevents.4000000000.host.1", "");
  write("events.out.tfevents.9999999999.host.1", "");
  write("events.out.tfevents.x", "");
  write("events.out.tfevents.", "");
  const EventFile first(folder_, 0), second(folder_, 0);
  EXPECT_THAT(first.path().filename().string(), StartsWith("events.out.tfevents.4000000001."));
  EXPECT_THAT(second.path().filename().string(), StartsWith("events.out.tfevents.4000000002."));
}

TEST_F(EventFolder, LosesNothingOnADiskThatIsFullForAWhile) {
  EventFile file(folder_, 0);
  file.scalar("loss", 1, 0.5);
  file.flush();
  file.scalar("loss", 2, 0.25);
  {
    const FullDisk full(static_cast<int64_t>(bytes(file).size()) + 9);
    EXPECT_THAT(message_of<Error>([&] { file.flush(); }), HasSubstr(file.path().string() + ": cannot write: "));
  }
  file.scalar("loss", 3, 0.125);
  file.flush();
  const std::vector<ReadEvent> events = read(bytes(file));
  ASSERT_EQ(events.size(), 5u);
  for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(events[static_cast<size_t>(step) + 1].step, step);
}

TEST_F(EventFolder, SaysWhereItCannotBeWritten) {
  EXPECT_THAT(message_of<Error>([&] { EventFile(folder_ / "none", 0); }), HasSubstr("none"));
  const std::filesystem::path file = write("a file", "");
  EXPECT_THAT(message_of<Error>([&] { EventFile(file, 0); }), HasSubstr("a file"));
  EXPECT_THAT(files_in(folder_).at("a file"), IsEmpty());
}

}  // namespace
}  // namespace octet

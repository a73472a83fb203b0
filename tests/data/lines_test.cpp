// SPDX-License-Identifier: Apache-2.0
#include "octet/data/lines.h"

#include <fstream>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ReadLines : public testing::Test {
 protected:
  std::filesystem::path file(std::string_view content) {
    const std::filesystem::path path =
        std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
};

TEST_F(ReadLines, EndsOfLinesMayBeLfOrCrlfAndTheLastMayBeMissing) {
  EXPECT_THAT(read_lines(file("one\ntwo\n")), ElementsAre("one", "two"));
  EXPECT_THAT(read_lines(file("one\r\ntwo\r\n")), ElementsAre("one", "two"));
  EXPECT_THAT(read_lines(file("one\ntwo")), ElementsAre("one", "two"));
  EXPECT_THAT(read_lines(file("one\r\ntwo\r")), ElementsAre("one", "two"));
}

TEST_F(ReadLines, KeepsEmptyLinesBlanksAndCarriageReturnsWithin) {
  EXPECT_THAT(read_lines(file("\n a \r b\t\n\n\n")), ElementsAre("", " a \r b\t", "", ""));
  EXPECT_THAT(read_lines(file("\r\r\n")), ElementsAre("\r"));
  EXPECT_THAT(read_lines(file("")), IsEmpty());
}

TEST_F(ReadLines, DropsAByteOrderMarkAtTheStartOnly) {
  EXPECT_THAT(read_lines(file("\xEF\xBB\xBFgrün\n\xEF\xBB\xBF\n")), ElementsAre("grün", "\xEF\xBB\xBF"));
  EXPECT_THAT(read_lines(file("\xEF\xBB\xBF")), IsEmpty());
}

TEST_F(ReadLines, RefusesWhatIsNoTextOrTooLarge) {
  EXPECT_THAT(
      [&] {
        read_lines(file({"a\n\0b", 4}));
      },
      testing::ThrowsMessage<FormatError>(HasSubstr("byte 2 is zero")));
  EXPECT_THAT(read_lines(file("12345"), 5), ElementsAre("12345"));
  EXPECT_THAT([&] { read_lines(file("123456"), 5); }, testing::ThrowsMessage<FormatError>(HasSubstr("6 bytes")));
  EXPECT_THROW(read_lines(std::filesystem::path(testing::TempDir()) / "no such file"), Error);
}

}  // namespace
}  // namespace octet

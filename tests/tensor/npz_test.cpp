// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/npz.h"

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kLimit = 1000;

std::string content(const std::string& name) {
  std::ifstream stream(golden(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}
std::map<std::string, Tensor> parse(const std::string& bytes, int64_t limit = kLimit) {
  return parse_npz(std::as_bytes(std::span(bytes)), "a.npz", limit);
}

TEST(Npz, ArchivesByNumpyAreRead) {
  for (const char* file : {"scales.npz", "compressed.npz"}) {
    const std::map<std::string, Tensor> arrays = read_npz(golden(file), kLimit);
    ASSERT_EQ(arrays.size(), 3) << file;
    EXPECT_EQ(arrays.at("a.{q,k}").shape(), Shape{});
    EXPECT_THAT(arrays.at("a.{q,k}").as<double>(), ElementsAre(0.5));
    EXPECT_THAT(arrays.at("a.{q,k}.zero_point").as<int64_t>(), ElementsAre(3));
    EXPECT_EQ(arrays.at("b").shape(), Shape{1});
    EXPECT_THAT(arrays.at("b").as<float>(), ElementsAre(0.25f));
    const std::string bytes = content(file);
    EXPECT_TRUE(is_zip(std::as_bytes(std::span(bytes))));
  }
}

TEST(Npz, DamageIsRefused) {
  const std::string whole = content("scales.npz");
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(parse(whole.substr(0, length)), FormatError) << length;
  }
  // One element's bits: the checksum is another.
  std::string changed = whole;
  changed[changed.find("\x93NUMPY") + 128] ^= 1;
  EXPECT_THAT(message_of([&] { parse(changed); }),
              testing::AllOf(HasSubstr("a.npz, 'a.{q,k}.npy'"), HasSubstr("damaged")));
}

TEST(Npz, WhatIsNoArchiveOfArraysIsRefused) {
  EXPECT_THAT(message_of([] { parse("{}"); }), HasSubstr("a.npz: not an npz file"));
  std::string text = content("scales.npz");
  for (size_t at = 0; (at = text.find("b.npy", at)) != text.npos; ++at) text.replace(at, 5, "b.txt");
  EXPECT_THAT(message_of([&] { parse(text); }), HasSubstr("'b.txt': not an npy file"));
  EXPECT_THAT(message_of([] { parse(content("compressed.npz"), 300); }), HasSubstr("more than 300 bytes"));
  EXPECT_NO_THROW(parse(content("compressed.npz"), 404));
}

}  // namespace
}  // namespace octet

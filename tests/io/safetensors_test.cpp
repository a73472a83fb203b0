// SPDX-License-Identifier: Apache-2.0
#include "octet/io/safetensors.h"

#include <csignal>

#include <sys/resource.h>

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Safetensors : public ScratchFolder {
 protected:
  static std::string with_length(uint64_t length, const std::string& rest) {
    std::string bytes(sizeof length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes + rest;
  }
  std::filesystem::path file(const std::string& header, const std::string& data = "") const {
    return write("m.safetensors", with_length(header.size(), header + data));
  }
  std::string refusal(const std::string& header, const std::string& data = "") const {
    return message_of([&] { SafetensorsFile::open(file(header, data)); });
  }
  // The refusal of one tensor 't' over `bytes` bytes of data.
  std::string tensor_refusal(const std::string& entry, int bytes) const {
    return refusal(R"({"t":)" + entry + "}", std::string(bytes, 'x'));
  }
};

TEST_F(Safetensors, EveryDtypeSurvivesWritingAndReading) {
  const std::vector<std::pair<DType, Shape>> cases = {
      {DType::kBool, {3}}, {DType::kU8, {5}}, {DType::kI8, {1, 7}}, {DType::kBF16, {3, 1}},   {DType::kF16, {2, 2}},
      {DType::kI32, {3}},  {DType::kF32, {}}, {DType::kI64, {2}},   {DType::kF64, {1, 1, 1}}, {DType::kF32, {0, 4}},
  };
  SafetensorsWriter writer;
  std::map<std::string, std::string> expected;
  for (size_t i = 0; i < cases.size(); ++i) {
    Tensor tensor(cases[i].first, cases[i].second);
    for (int64_t b = 0; b < tensor.bytes(); ++b) tensor.mutable_view().data[b] = static_cast<std::byte>(17 * i + b);
    const std::string name = "t" + std::to_string(i);
    expected[name] = bytes_of(tensor);
    writer.add(name, std::move(tensor));
  }
  writer.write(folder_ / "m.safetensors");
  const SafetensorsFile back = SafetensorsFile::open(folder_ / "m.safetensors");
  EXPECT_EQ(back.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(back.names().size(), cases.size());
  int64_t bytes = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string name = "t" + std::to_string(i);
    ASSERT_TRUE(back.contains(name));
    const Tensor tensor = back.tensor(name);
    EXPECT_EQ(tensor.dtype(), cases[i].first) << name;
    EXPECT_EQ(tensor.shape(), cases[i].second) << name;
    EXPECT_EQ(bytes_of(tensor), expected[name]) << name;
    EXPECT_TRUE(tensor.is_mapped()) << name << ": the writer aligns every tensor";
    bytes += tensor.bytes();
  }
  EXPECT_EQ(back.bytes(), bytes);
}

TEST_F(Safetensors, AFileByThePythonLibraryIsRead) {
  const SafetensorsFile file = SafetensorsFile::open(golden("dtypes.safetensors"));
  EXPECT_EQ(file.metadata().at("note"), "línea\n2");
  const std::vector<float> steps = {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f};
  for (const char* name : {"f64", "f32", "f16", "bf16"}) {
    const Tensor tensor = to_f32(file.tensor(name).view());
    EXPECT_EQ(tensor.shape(), (Shape{2, 3})) << name;
    EXPECT_THAT(tensor.as<float>(), testing::ElementsAreArray(steps)) << name;
  }
  EXPECT_THAT(file.tensor("i64").as<int64_t>(), testing::ElementsAre(-(int64_t{1} << 40), int64_t{1} << 40));
  EXPECT_THAT(file.tensor("i32").as<int32_t>(), testing::ElementsAre(-(1 << 30), 1 << 30));
  EXPECT_THAT(file.tensor("i8").as<int8_t>(), testing::ElementsAre(-128, 0, 127));
  EXPECT_THAT(file.tensor("u8").as<uint8_t>(), testing::ElementsAre(0, 128, 255));
  EXPECT_EQ(bytes_of(file.tensor("bool")), std::string("\1\0\1", 3));
  EXPECT_EQ(file.tensor("scalar").shape(), Shape{});
  EXPECT_EQ(file.tensor("scalar").as<float>()[0], 7.0f);
  EXPECT_EQ(file.tensor("nothing").shape(), (Shape{0, 4}));
  EXPECT_EQ(file.tensor("Ünïcode \"quoted\"").as<float>()[0], 1.0f);
}

TEST_F(Safetensors, AMisalignedTensorIsCopied) {
  // Eight bytes of length and a header of odd length: the data starts on an odd byte.
  std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  if (header.size() % 2 == 0) header += ' ';
  const SafetensorsFile opened = SafetensorsFile::open(file(header, std::string("\0\0\x80\x3f", 4)));
  const Tensor tensor = opened.tensor("a");
  EXPECT_FALSE(tensor.is_mapped());
  EXPECT_EQ(tensor.as<float>()[0], 1.0f);
}

TEST_F(Safetensors, ATruncatedFileSaysWhereATensorEndsAndWhatTheFileHas) {
  const std::string header = R"({"encoder.weight":{"dtype":"I8","shape":[5000],"data_offsets":[0,5000]}})";
  const std::string message = refusal(header, std::string(1234, 'x'));
  EXPECT_THAT(message, HasSubstr("m.safetensors: tensor 'encoder.weight' ends at byte 5,080, but the file has 1,314."));
  EXPECT_THAT(message, HasSubstr("fetch it again"));
}

TEST_F(Safetensors, EveryPrefixOfAFileIsRefused) {
  const std::string header = R"({"a":{"dtype":"I8","shape":[5],"data_offsets":[0,5]}})";
  const std::string whole = with_length(header.size(), header + "12345");
  for (size_t length = 0; length < whole.size(); ++length) {
    const auto path = write("m.safetensors", whole.substr(0, length));
    EXPECT_THROW(SafetensorsFile::open(path), FormatError) << length;
  }
  EXPECT_NO_THROW(SafetensorsFile::open(write("m.safetensors", whole)));
}

TEST_F(Safetensors, AHeaderLengthIsNotTrusted) {
  const auto refusal_of = [&](uint64_t length) {
    return message_of([&] { SafetensorsFile::open(write("m.safetensors", with_length(length, "{}"))); });
  };
  EXPECT_THAT(refusal_of(uint64_t{1} << 30), HasSubstr("a header of 1,073,741,824 bytes"));
  EXPECT_THAT(refusal_of(~uint64_t{0}), HasSubstr("a header of 18,446,744,073,709,551,615 bytes"));
  EXPECT_THAT(refusal_of(100'000'000), HasSubstr("but the file has 10"));
  EXPECT_THAT(refusal_of(3), HasSubstr("but the file has 10"));
}

TEST_F(Safetensors, AHeaderThatIsNoObjectIsRefused) {
  for (const char* header : {"", "[]", "null", " {}", "\xef\xbb\xbf{}", "{", "{}x", "{\"a\":}", "{\"\xff\":1}"}) {
    EXPECT_THROW(SafetensorsFile::open(file(header)), FormatError) << header;
  }
  EXPECT_NO_THROW(SafetensorsFile::open(file("{}      ")));
}

TEST_F(Safetensors, ADeepHeaderDoesNotExhaustTheStack) {
  EXPECT_THAT(refusal("{\"a\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}"),
              HasSubstr("nested more than 3"));
}

TEST_F(Safetensors, EachFaultOfATensorIsNamed) {
  struct Case {
    const char* entry;
    int bytes;
    const char* said;
  };
  const std::vector<Case> cases = {
      {R"([1])", 0, "an object is needed"},
      {R"({"dtype":"F32","shape":[1]})", 4, "has no data_offsets"},
      {R"({"dtype":"F32","data_offsets":[0,4]})", 4, "has no shape"},
      {R"({"shape":[1],"data_offsets":[0,4]})", 4, "has no dtype"},
      {R"({"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]})", 4, "its dtype is 'F8_E4M3'"},
      {R"({"dtype":4,"shape":[4],"data_offsets":[0,4]})", 4, "its dtype is 4, not text"},
      {R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4, "its shape is 1, not a list"},
      {R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4, "shape holds -1"},
      {R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4, "shape holds 1.0"},
      {R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})", 4, "shape holds \"1\""},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 4, "data_offsets holds -4"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,4.0]})", 4, "data_offsets holds 4.0"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]})", 4,
       "data_offsets holds 18446744073709551615"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 4, "1 data_offsets"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,2,4]})", 4, "3 data_offsets"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4, "begins at byte 4 and ends before it, at 0"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4, "F32 [2] does not fill its 4 bytes"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 4, "but the file has"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]})", 4, "but the file has"},
      {R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0, "is impossible"},
      {R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]})", 0, "does not fill its 0 bytes"},
      {R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1, "9 dimensions"},
      {R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1})", 1, "unknown key 'extra'"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(tensor_refusal(c.entry, c.bytes), AllOf(HasSubstr("m.safetensors: tensor 't'"), HasSubstr(c.said)))
        << c.entry;
  }
}

TEST_F(Safetensors, OverlapsAndHolesAreRefused) {
  const auto header = [](const char* a, const char* b) {
    return fmt::format(
        R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
        a, b);
  };
  EXPECT_NO_THROW(SafetensorsFile::open(file(header("[4,8]", "[0,4]"), "12345678")));
  EXPECT_THAT(refusal(header("[0,4]", "[2,6]"), "123456"), HasSubstr("tensor 'b' overlaps the one before it"));
  EXPECT_THAT(refusal(header("[0,4]", "[0,4]"), "1234"), HasSubstr("overlaps"));
  EXPECT_THAT(refusal(header("[0,4]", "[6,10]"), "1234567890"),
              HasSubstr("2 bytes before tensor 'b' belong to no tensor"));
  EXPECT_THAT(refusal(header("[1,5]", "[5,9]"), "123456789"), HasSubstr("1 bytes before tensor 'a'"));
  EXPECT_THAT(refusal(header("[0,4]", "[4,8]"), "123456789"), HasSubstr("1 bytes at the end belong to no tensor"));
  EXPECT_THAT(refusal("{}", "1"), HasSubstr("1 bytes at the end"));
}

TEST_F(Safetensors, ANameGivenTwiceIsRefused) {
  const std::string entry = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_THAT(refusal("{" + entry + "," + entry + "}", "1"), HasSubstr("'a' stands twice"));
  EXPECT_THAT(tensor_refusal(R"({"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]})", 1),
              HasSubstr("'dtype' stands twice"));
}

TEST_F(Safetensors, MetadataHoldsOnlyText) {
  EXPECT_THAT(refusal(R"({"__metadata__":{"format":1}})"), HasSubstr("only text is allowed"));
  EXPECT_THAT(refusal(R"({"__metadata__":"pt"})"), HasSubstr("not an object"));
}

TEST_F(Safetensors, ANameInAMessageIsShortAndHarmless) {
  const std::string message = refusal(R"({"\u001b[31m)" + std::string(100'000, 'a') + R"(":1})");
  EXPECT_LT(message.size(), 500u);
  EXPECT_EQ(message.find('\x1b'), message.npos);
}

TEST_F(Safetensors, AMissingFileOrTensorIsAnError) {
  EXPECT_THAT(message_of<Error>([&] { SafetensorsFile::open(folder_ / "none"); }), HasSubstr("none: cannot open"));
  const SafetensorsFile empty = SafetensorsFile::open(file("{}"));
  EXPECT_THAT(message_of([&] { empty.tensor("a.weight"); }), HasSubstr("holds no tensor 'a.weight'"));
}

TEST_F(Safetensors, TheWriterMakesEachTensorWhenItsTurnComes) {
  SafetensorsWriter writer;
  std::vector<std::string> order;
  const auto source = [&](const std::string& name, DType dtype) {
    return TensorSource{name, dtype, {4}, [&order, name, dtype] {
                          order.push_back(name);
                          return Tensor(dtype, {4});
                        }};
  };
  writer.add(source("narrow", DType::kI8));
  writer.add(source("b", DType::kF32));
  writer.add(source("a", DType::kF32));
  EXPECT_TRUE(order.empty());
  writer.write(folder_ / "m.safetensors");
  EXPECT_THAT(order, testing::ElementsAre("narrow", "b", "a"));
}

TEST_F(Safetensors, TheWriterRefusesWhatItCannotWrite) {
  SafetensorsWriter writer;
  writer.add("a", tensor_of<float>({1}, {1}));
  EXPECT_THAT(message_of<Error>([&] { writer.add("a", Tensor(DType::kF32, {1})); }),
              HasSubstr("two tensors have the name 'a'"));
  EXPECT_THAT(message_of<Error>([&] { writer.add("__metadata__", Tensor(DType::kF32, {1})); }),
              HasSubstr("__metadata__"));
  SafetensorsWriter liar;
  liar.add({"a", DType::kF32, {2}, [] { return Tensor(DType::kF32, {3}); }});
  EXPECT_THAT(message_of<Error>([&] { liar.write(folder_ / "m"); }), HasSubstr("announced as F32 [2] but is F32 [3]"));
  SafetensorsWriter bad_name;
  bad_name.add("\xff", Tensor(DType::kF32, {1}));
  EXPECT_THAT(message_of<Error>([&] { bad_name.write(folder_ / "m"); }), HasSubstr("not UTF-8"));
  EXPECT_EQ(entries(), 0);
}

TEST_F(Safetensors, AFullDiskIsOneErrorAndLeavesNothing) {
  // A limit on the size of files acts like a disk that has this much left; past it write() fails with EFBIG.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  SafetensorsWriter writer;
  writer.add("a", Tensor(DType::kF32, {100'000}));
  rlimit limited = before;
  limited.rlim_cur = 200'000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  std::string message;
  try {
    writer.write(folder_ / "m.safetensors");
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("m.safetensors: cannot write: File too large"));
  EXPECT_EQ(entries(), 0);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/npy.h"

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Npy : public ScratchFolder {
 protected:
  static std::string file(const std::string& header, const std::string& data, char major = 1) {
    std::string bytes = std::string("\x93NUMPY") + major + '\0' + static_cast<char>(header.size() & 0xff) +
                        static_cast<char>(header.size() >> 8);
    if (major > 1) bytes += std::string(2, '\0');
    return bytes + header + data;
  }
  static Tensor parse(const std::string& bytes) { return parse_npy(std::as_bytes(std::span(bytes)), "a.npy"); }
  static std::string refusal(const std::string& header, const std::string& data) {
    return message_of([&] { parse(file(header, data)); });
  }
};

TEST_F(Npy, FilesByNumpyAreRead) {
  for (const char* name : {"f4.npy", "version2.npy", "version3.npy"}) {
    const Tensor tensor = read_npy(golden(name));
    EXPECT_EQ(tensor.shape(), (Shape{2, 3})) << name;
    EXPECT_THAT(tensor.as<float>(), ElementsAre(0, 1, 2, 3, 4, 5)) << name;
  }
  EXPECT_EQ(read_npy(golden("scalar_i8.npy")).shape(), Shape{});
  EXPECT_THAT(read_npy(golden("scalar_i8.npy")).as<int64_t>(), ElementsAre(-5));
  EXPECT_THAT(to_f32(read_npy(golden("f2.npy")).view()).as<float>(), ElementsAre(0, 1, 3));
  EXPECT_THAT(read_npy(golden("f8.npy")).as<double>(), ElementsAre(0, 1, 3));
  EXPECT_THAT(read_npy(golden("i4.npy")).as<int32_t>(), ElementsAre(0, 1, 3));
  EXPECT_THAT(read_npy(golden("i1.npy")).as<int8_t>(), ElementsAre(0, 1, 3));
  EXPECT_THAT(read_npy(golden("u1.npy")).as<uint8_t>(), ElementsAre(0, 1, 3));
  EXPECT_EQ(read_npy(golden("b1.npy")).dtype(), DType::kBool);
  EXPECT_EQ(bytes_of(read_npy(golden("b1.npy"))), std::string("\0\1\1", 3));
}

TEST_F(Npy, OctetWritesTheBytesThatNumpyWrites) {
  for (const char* name : {"f4.npy", "f2.npy", "f8.npy", "i4.npy", "i1.npy", "u1.npy", "b1.npy", "scalar_i8.npy"}) {
    std::ifstream stream(golden(name), std::ios::binary);
    const std::string expected(std::istreambuf_iterator<char>(stream), {});
    write_npy(folder_ / "a.npy", read_npy(golden(name)).view());
    std::ifstream written(folder_ / "a.npy", std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(written), {}), expected) << name;
  }
}

TEST_F(Npy, OtherLayoutsAreRefusedWithAdvice) {
  EXPECT_THAT(message_of([] { read_npy(golden("fortran.npy")); }), HasSubstr("numpy.ascontiguousarray"));
  EXPECT_THAT(message_of([] { read_npy(golden("big_endian.npy")); }), HasSubstr("newbyteorder"));
}

TEST_F(Npy, AFortranVectorIsOneInCOrderToo) {
  const std::string header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2,), }";
  EXPECT_THAT(parse(file(header, "ab")).as<uint8_t>(), ElementsAre('a', 'b'));
}

TEST_F(Npy, ADictionaryInAnyOrderAndSpacingIsRead) {
  const std::string header = "{ \"shape\" :(2 ,1), 'fortran_order':False,'descr':\"|i1\"}\n";
  EXPECT_EQ(parse(file(header, "ab")).shape(), (Shape{2, 1}));
  EXPECT_EQ(parse(file("{'descr': '|i1', 'fortran_order': False, 'shape': ()}", "a")).shape(), Shape{});
  EXPECT_EQ(parse(file("{'descr': '|i1', 'fortran_order': False, 'shape': (0, 3)}", "")).shape(), (Shape{0, 3}));
}

TEST_F(Npy, TheFileHasExactlyTheBytesOfItsShape) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  EXPECT_NO_THROW(parse(file(header, "12345678")));
  EXPECT_THAT(refusal(header, "1234567"), HasSubstr("F32 [2] does not fit the 7 bytes after the header"));
  EXPECT_THAT(refusal(header, "123456789"), HasSubstr("does not fit the 9 bytes"));
  const std::string whole = file(header, "12345678");
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(parse(whole.substr(0, length)), FormatError) << length;
  }
}

TEST_F(Npy, HostileHeadersAreRefused) {
  struct Case {
    const char* header;
    const char* said;
  };
  const std::vector<Case> cases = {
      {"", "malformed"},
      {"{}", "lacks"},
      {"{'descr': '<f4', 'fortran_order': False, }", "lacks"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", "unexpected key 'more'"},
      {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "unexpected key 'descr'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "malformed"},
      {"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': 1}", "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1", "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,)}", "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "impossible"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}", "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "impossible"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}", "does not fit"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "9 dimensions"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "elements of type '|O'"},
      {"{'descr': '<u4', 'fortran_order': False, 'shape': (1,)}", "elements of type '<u4'"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "records"},
      {"{'descr': '<f4", "malformed"},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(c.header, "1234"), HasSubstr(c.said)) << c.header;
}

TEST_F(Npy, LengthsAndVersionsAreNotTrusted) {
  EXPECT_THAT(message_of([] { parse("not an array"); }), HasSubstr("not an npy file"));
  EXPECT_THAT(message_of([] { parse(file("{}", "", 4)); }), HasSubstr("npy version 4.0"));
  EXPECT_THAT(message_of([] { parse(file("{}", "", 0)); }), HasSubstr("npy version 0.0"));
  const std::string endless = std::string("\x93NUMPY\2\0", 8) + "\xff\xff\xff\xff{}";
  EXPECT_THAT(message_of([&] { parse(endless); }), HasSubstr("a header of 4294967295 bytes"));
}

TEST_F(Npy, Bfloat16IsRefusedForWriting) {
  EXPECT_THAT(message_of<Error>([] { to_npy_bytes(Tensor(DType::kBF16, {1}).view()); }),
              HasSubstr("NumPy has no BF16"));
}

}  // namespace
}  // namespace octet

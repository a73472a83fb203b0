// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// A test with an empty folder of its own.
class ScratchFolder : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / (std::string(test.test_suite_name()) + "." + test.name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  int entries() const { return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder_), {})); }

  std::filesystem::path folder_;
};

/// All files of a folder, by name.
inline std::map<std::string, std::string> files_in(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

/// The message of the E that `action` throws; fails the test where it throws none.
template <class E = FormatError, class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an exception of another type: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no exception";
  return "";
}

template <class T>
Tensor tensor_of(Shape shape, const std::vector<T>& values) {
  Tensor tensor(DTypeOf<T>::value, shape);
  if (shape.elements() != static_cast<int64_t>(values.size())) throw ShapeError("values do not fill the shape");
  std::copy(values.begin(), values.end(), tensor.mutable_as<T>().begin());
  return tensor;
}

inline std::string bytes_of(const Tensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.view().data), static_cast<size_t>(tensor.bytes())};
}

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(OCTET_TEST_FILES) / "golden" / name;
}

}  // namespace octet

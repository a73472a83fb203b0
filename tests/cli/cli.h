// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "octet/base/json.h"

namespace octet {

namespace fs = std::filesystem;
using nlohmann::json;

inline std::string contents(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

// Runs the program itself, as a user does.
class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("cli_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// The exit status; out_ and err_ hold what was printed. `before` is put in front of the command: VARIABLE=value.
  int run(const std::string& arguments, const std::string& before = "", const std::string& to = ".out") {
    const fs::path out = folder_ / ".out", err = folder_ / ".err";
    const std::string command = "cd '" + folder_.string() + "' && " + before + " '" OCTET_PROGRAM "' " + arguments +
                                " > " + to + " 2> .err < " + input_;
    const int status = std::system(command.c_str());
    out_ = contents(out), err_ = contents(err);
    fs::remove(out), fs::remove(err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  }
  json run_json(const std::string& arguments, const std::string& before = "") {
    EXPECT_EQ(run(arguments + " --json", before), 0) << err_;
    return parse_json(out_, "the test");
  }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return name;
  }

  fs::path folder_;
  std::string input_ = "/dev/null";  ///< what standard input reads
  std::string out_, err_;
};

}  // namespace octet

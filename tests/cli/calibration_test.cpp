// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <map>

#include <gmock/gmock.h>

#include "tests/cli/cli.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const fs::path kShare = fs::path(OCTET_PROGRAM).parent_path().parent_path() / "share/octet";

class CalibrationCli : public Cli {
 protected:
  // A text in words that the demo models know.
  std::string text(int words) {
    static const char* const kWords[] = {"the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "day"};
    std::string all;
    for (int i = 0; i < words; ++i) all += std::string(kWords[(i * i + i / 7) % 10]) + (i % 13 == 12 ? ".\n" : " ");
    return write("text.txt", all);
  }
  std::map<std::string, std::string> files_in(const std::string& name) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / name)) {
      if (entry.is_regular_file()) files[entry.path().filename().string()] = contents(entry.path());
    }
    return files;
  }
};

TEST_F(CalibrationCli, StaticModelsAreWrittenAndRun) {
  const std::string data = text(1500);
  for (const std::string model : {"demo_decoder", "demo_encoder"}) {
    const std::string source = (kShare / model).string();
    const json report = run_json("quantize " + source + " --recipe w8a8_smoothquant_static --data " + data +
                                 " --set calibration.samples=16 --set calibration.sequence_length=64 --out " + model);
    EXPECT_FALSE(report["activation_ranges"].empty());
    for (const json& site : report["activation_ranges"]) {
      EXPECT_FALSE(site["destroyed"].get<bool>()) << json_text(site);
      EXPECT_LT(site["relative_error"], 0.1);
    }
    const json config = parse_json(contents(folder_ / model / "config.json"), "the test");
    EXPECT_EQ(config["octet_calibration"]["seed"], 0);
    EXPECT_EQ(config["octet_calibration"]["data"]["sha256"].get<std::string>().size(), 64);
    const json inspected = run_json("inspect " + model + " --flow");
    EXPECT_THAT(json_text(inspected), HasSubstr("int8, static scale"));
  }
  EXPECT_EQ(run("compare " + (kShare / "demo_decoder").string() + " demo_decoder --data " + data), 0) << err_;
}

// What is written, and what quantizing while loading gives by the scales found, have one metric to the last digit.
TEST_F(CalibrationCli, FewerBitsAreWrittenAndServedAlike) {
  const std::string source = (kShare / "demo_decoder").string(), data = text(1500);
  write("few.json", R"({"weights": {"bits": 3, "granularity": "per_group", "group_size": 32},
                        "activations": {"bits": 5, "mode": "static", "range": "mse"},
                        "attention": {"mode": "static", "qk_bits": 6, "v_bits": 4}})");
  const json report = run_json("quantize " + source + " --recipe few.json --data " + data +
                               " --set calibration.samples=16 --set calibration.sequence_length=64 --out few");
  json scales = json::object();
  for (const json& site : report["activation_ranges"]) {
    const std::string name = site["site"];
    scales[name] = site["scale"];
    EXPECT_EQ(site["bits"], name.ends_with(".v") ? 4 : name.ends_with(".q") || name.ends_with(".k") ? 6 : 5) << name;
  }
  const json inspected = run_json("inspect few");
  EXPECT_EQ(inspected["attention"], "int6 queries and keys, int4 values, static per tensor");
  EXPECT_THAT(json_text(inspected["layers"]), HasSubstr("int5 activations (as int8 codes) per tensor, static"));
  write("scales.json", json_text(scales));
  const std::string loading = " --recipe few.json --set activation_scales=scales.json";
  EXPECT_THAT(json_text(run_json("inspect " + source + loading)["layers"]),
              HasSubstr("int3 weights (as int4 codes) in"));
  const auto perplexity = [&](const std::string& of) {
    return run_json("eval " + of + " --task perplexity --data " + data)["perplexity"];
  };
  EXPECT_EQ(perplexity("few"), perplexity(source + loading));
  EXPECT_NE(perplexity("few"), perplexity(source + loading + " --set attention.v_bits=3"));
}

TEST_F(CalibrationCli, OutlierColumnsAreCountedWithTheirBytes) {
  const std::string command = "quantize " + (kShare / "demo_decoder").string() +
                              " --recipe w8a8_dynamic_outliers --data " + text(1500) +
                              " --set calibration.samples=8 --set calibration.sequence_length=64 ";
  const json report = run_json(command + "--set 'outliers={\"threshold\": 0, \"max_columns\": 3}' --out three");
  int64_t outlier_bytes = 0;
  for (const json& layer : report["layers"]) {
    if (!layer.contains("scheme")) continue;
    EXPECT_EQ(layer["outlier_columns"], 3) << layer["name"];
    outlier_bytes += layer["outlier_bytes"].get<int64_t>();
  }
  EXPECT_GT(outlier_bytes, 0);
  const json inspected = run_json("inspect three");
  EXPECT_EQ(inspected["bytes"], report["bytes"]);
  int64_t found = 0;
  for (const json& tensor : inspected["tensors"]) {
    if (tensor["name"].get<std::string>().find(".outlier") != std::string::npos)
      found += tensor["bytes"].get<int64_t>();
  }
  EXPECT_EQ(found, outlier_bytes);
  for (const json& layer : inspected["layers"]) {
    EXPECT_EQ(layer.value("outlier_columns", json::array()).size(), layer["scheme"].is_null() ? 0 : 3);
  }
  ASSERT_EQ(run("inspect three"), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("outlier columns in 16 bits, int8"), HasSubstr("(3 outlier columns)"),
                          HasSubstr("% of the model's bytes")));
  ASSERT_EQ(run(command + "--set outliers.threshold=0 --set outliers.max_share=0.1 --out one"), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("outlier columns in 16 bits: "), HasSubstr(" of the model);  the most: ")));
  ASSERT_EQ(run(command + "--set outliers.threshold=1e9 --out none"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("outlier columns: none were met"));
  EXPECT_EQ(
      json_text(parse_json(contents(folder_ / "none/config.json"), "the test")["quantization_config"]["config_groups"])
          .find("octet_outlier_columns"),
      std::string::npos);
}

TEST_F(CalibrationCli, ARangeThatDestroysASiteIsWarnedOf) {
  const std::string model = (kShare / "demo_decoder").string(), data = text(1500);
  const std::string given =
      R"({"weights": {"bits": 8}, "activations": {"mode": "static"}, "activation_scales": {"model.layers.0.mlp.down_proj": 100.0}})";
  write("given.json", given);
  ASSERT_EQ(run("quantize " + model + " --recipe given.json --data " + data +
                " --set calibration.samples=4 --set calibration.sequence_length=64 --out out"),
            0)
      << err_;
  EXPECT_THAT(err_, AllOf(HasSubstr("warning: 'model.layers.0.mlp.down_proj'"), HasSubstr("static scale loses")));
  EXPECT_THAT(out_, AllOf(HasSubstr("static ranges: "), HasSubstr("1 as given")));
}

TEST_F(CalibrationCli, AKilledRunGoesOnWithTheSameBits) {
  const std::string data = text(9000), model = (kShare / "demo_decoder").string();
  const std::string command = "quantize " + model + " --recipe w4a16_g32_gptq --data " + data +
                              " --set calibration.samples=64 --set calibration.sequence_length=128 --out ";
  ASSERT_EQ(run(command + "whole"), 0) << err_;
  // Killed without a chance to clean up, once a block is done.
  const std::string script = "cd '" + folder_.string() + "'; '" OCTET_PROGRAM "' " + command +
                             "out > /dev/null 2>&1 & p=$!; cd '" + folder_.string() +
                             "'; while kill -0 $p 2>/dev/null && [ ! -e .out.partial/.octet_piece_00001.safetensors ]; "
                             "do sleep 0.002; done; kill -9 $p 2>/dev/null; wait $p 2>/dev/null";
  ASSERT_NE(std::system(script.c_str()), -1);
  ASSERT_TRUE(fs::exists(folder_ / ".out.partial" / ".octet_piece_00001.safetensors"))
      << "the run ended before it could be killed";
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  ASSERT_EQ(run(command + "out"), 0) << err_;
  EXPECT_EQ(files_in("out"), files_in("whole"));
  EXPECT_FALSE(fs::exists(folder_ / ".out.partial"));
}

TEST_F(CalibrationCli, BadCalibrationIsOneMessageAndWritesNothing) {
  const std::string model = (kShare / "demo_decoder").string(), data = text(400);
  write("empty.txt", "");
  write("short.txt", "the cat");
  const auto refused = [&](int status, const std::string& arguments, const std::string& words) {
    EXPECT_EQ(run(arguments), status) << arguments << "\n" << err_;
    EXPECT_EQ(out_, "");
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr(words))) << arguments;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  };
  const std::string quantize = "quantize " + model + " --out out --recipe ";
  refused(2, quantize + "w4a16_g128_gptq", "GPTQ needs calibration data: add --data TEXT");
  refused(2, quantize + "w8a8_static", "--data TEXT");
  refused(1, quantize + "w8a8_static --data empty.txt", "empty.txt: is empty");
  refused(1, quantize + "w8a8_static --data short.txt", "128 at least");
  refused(2, quantize + "w8a8_static --data no.txt", "no.txt");
  refused(2, quantize + "w8a8_static --data " + data + " --set calibration.sequence_length=100000", "longest is");
  refused(1, quantize + "w8a8_static --data " + data + " --set activations.range=widest", "'range' is \"widest\"");
  refused(2, "inspect " + model + " --recipe w4a16_g128_gptq",
          "octet quantize MODEL --recipe w4a16_g128_gptq --data TEXT");
  refused(2, "inspect " + model + " --recipe w8a8_static", "--data TEXT");
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "tests/cli/cli.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST_F(Cli, PreparesTokensThatTrainReads) {
  const std::string model = OCTET_DEMO_DECODER;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "Once upon a time there was a dog.\n<|endoftext|>\n";
  write("stories.txt", text);
  const json made = run_json("prepare " + model + " --data stories.txt --documents end-of-text --out stories.npy");
  EXPECT_EQ(made["documents"], 40);
  EXPECT_EQ(made["inner_ends"], 0);
  EXPECT_EQ(made["bytes_per_token"], 2);
  EXPECT_EQ(made["tokens"].get<size_t>() * 2, fs::file_size(folder_ / "stories.npy") - 128);
  EXPECT_TRUE(fs::exists(folder_ / "stories.npy.json"));

  write("lm.json", R"({"task": "lm", "max_length": 16, "batch_size": 8, "max_steps": 1, "eval_limit": 2})");
  const std::string train = "train --config lm.json --set model=" + model + " --set eval_data=stories.txt";
  const json tokens = run_json(train + " --set train_data=stories.npy --out a");
  const json plain = run_json(train + " --set train_data=stories.txt --set documents=end-of-text --out b");
  EXPECT_EQ(tokens["tokens"], plain["tokens"]);
  EXPECT_EQ(contents(folder_ / "a/log.csv"), contents(folder_ / "b/log.csv"));

  EXPECT_EQ(run(train + " --set train_data=stories.npy --set model=" OCTET_DEMO_ENCODER " --out c"), 2);
  EXPECT_THAT(err_, HasSubstr("was prepared with another tokenizer"));
  EXPECT_EQ(run("prepare " + model + " --data stories.txt --out whole.npy"), 0);
  EXPECT_THAT(err_, HasSubstr("warning: 40 tokens that end a text stood inside documents"));
  EXPECT_THAT(out_, AllOf(HasSubstr("41 documents"), HasSubstr("tokens of 2 bytes")));
  EXPECT_EQ(run("prepare " + model + " --data stories.txt --out tokens.bin"), 2);
  EXPECT_THAT(err_, HasSubstr("FILE.npy"));
  EXPECT_FALSE(fs::exists(folder_ / "tokens.bin"));
  EXPECT_EQ(run("prepare " + model + " --data stories.txt --documents line --out x.npy"), 2);
  EXPECT_THAT(err_, HasSubstr("Did you mean 'lines'"));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/trainable.h"

#include <gmock/gmock.h>

#include "octet/backend/cpu/cpu_backend.h"

namespace octet {
namespace {

using ::testing::ElementsAre;

std::vector<float> own(const Trainable& trainable, const TrainedRows& part, Backend& backend) {
  const std::vector<float> all = trainable.download(backend);
  const std::span<const float> found = trainable.own(part, all);
  return {found.begin(), found.end()};
}

TEST(Trainable, PartsOfMatricesAreRows) {
  const auto backend = make_cpu_backend({});
  Trainables all(*backend);
  const Trainable& two = all.add({{"query.weight", 0, 1}, {"key.weight", 1, 2}}, std::vector<float>{1, 2, 3, 4, 5, 6},
                                 2, Trainable::Kind::kMatrix);
  EXPECT_THAT(own(two, two.parts()[0], *backend), ElementsAre(1, 2));
  EXPECT_THAT(own(two, two.parts()[1], *backend), ElementsAre(3, 4, 5, 6));
  // As the weight of a head with one output.
  const Trainable& one =
      all.add({{"classifier.weight", 0, 1}}, std::vector<float>{7, 8, 9}, 3, Trainable::Kind::kMatrix);
  EXPECT_THAT(own(one, one.parts()[0], *backend), ElementsAre(7, 8, 9));
}

TEST(Trainable, PartsOfVectorsAreElements) {
  const auto backend = make_cpu_backend({});
  Trainables all(*backend);
  const Trainable& bias =
      all.add({{"query.bias", 0, 2}, {"key.bias", 2, 1}}, std::vector<float>{1, 2, 3}, 3, Trainable::Kind::kVector);
  EXPECT_THAT(own(bias, bias.parts()[0], *backend), ElementsAre(1, 2));
  EXPECT_THAT(own(bias, bias.parts()[1], *backend), ElementsAre(3));
  const Trainable& ends = all.add_clip("query", std::vector<float>{-1, 4});
  EXPECT_TRUE(ends.is_clip());
  EXPECT_FALSE(ends.decays());
  EXPECT_THAT(own(ends, ends.parts()[1], *backend), ElementsAre(4));
}

}  // namespace
}  // namespace octet

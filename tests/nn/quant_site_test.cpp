// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/quant_site.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(SiteName, NamesALoneLayerAndGathersAGroup) {
  EXPECT_EQ(site_name({"encoder.layer.0.output.dense"}), "encoder.layer.0.output.dense");
  EXPECT_EQ(site_name({"a.b.query", "a.b.key", "a.b.value"}), "a.b.{query,key,value}");
  EXPECT_EQ(site_name({"up", "gate"}), "{up,gate}");
  EXPECT_EQ(site_name({"a.b", "c.d"}), "a.{b,c.d}");
}

TEST(QuantSites, CountFromZero) {
  QuantSites sites;
  EXPECT_EQ(sites.add("first", ActivationMode::kFloat).id, 0);
  EXPECT_EQ(sites.add("second", ActivationMode::kDynamicPerToken).id, 1);
  EXPECT_EQ(sites[1].name, "second");
}

}  // namespace
}  // namespace octet

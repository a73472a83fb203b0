// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/site_facts.h"

#include <map>

#include "octet/ptq/block_stream.h"

namespace octet {
namespace {

constexpr int kBars = 96;

SiteFacts describe(const ActivationRangeEstimator& seen) {
  SiteFacts site;
  site.name = seen.site();
  std::tie(site.block, site.kind) = place_of_layer(site.name);
  site.rows = seen.rows();
  site.smallest = seen.smallest();
  site.largest = seen.largest();
  site.dynamic_error = seen.dynamic_relative_error();
  const std::vector<HistogramBar> bars = seen.histogram(kBars);
  if (!bars.empty() && bars.front().low < bars.back().high) {
    site.values = HistogramFacts{.low = bars.front().low, .high = bars.back().high, .counts = {}};
    for (const HistogramBar& bar : bars) site.values->counts.push_back(bar.count);
  }
  return site;
}

}  // namespace

StaticFacts static_range(ActivationMode mode, const ActivationScale& scale) {
  const CodeRange codes = code_range(mode, scale);
  StaticFacts facts;
  facts.low = codes.lowest * double{scale.scale};
  facts.high = codes.highest * double{scale.scale};
  return facts;
}

SiteObservation::SiteObservation(Model& model, Backend& backend, const TokenBatch& samples, Attention attention,
                                 const std::function<void(int64_t samples)>& advance) {
  std::vector<int> sites;
  std::map<std::pair<int, SiteInput::Role>, size_t> places;
  const auto watch = [&](int site, SiteInput::Role role, const std::string& name) {
    places[{site, role}] = estimators_.size();
    estimators_.emplace_back(name, 512, backend.threads());
  };
  for (const Linear* linear : std::as_const(model).linears()) {
    sites.push_back(linear->site().id);
    watch(linear->site().id, SiteInput::Role::kInput, linear->site().name);
  }
  if (attention == Attention::kWatched) {
    for (const AttentionSite& products : model.attention_sites()) {
      sites.push_back(products.site.id);
      for (const auto& [role, operand] : kAttentionOperands)
        watch(products.site.id, role, attention_operand(products.site, operand));
    }
  }
  BlockStream stream(model, backend, samples, advance);
  while (!stream.done()) {
    stream.run(BlockStream::Outputs::kTaken, sites, [&](const SiteInput& input) {
      estimators_[places.at({input.site.id, input.role})].add(input.rows, input.columns);
    });
  }
}

std::vector<SiteFacts> SiteObservation::facts() const {
  std::vector<SiteFacts> out;
  for (const ActivationRangeEstimator& seen : estimators_) {
    if (seen.rows() > 0) out.push_back(describe(seen));
  }
  return out;
}

void SiteObservation::add_static(std::vector<SiteFacts>& out, std::string_view name, ActivationMode mode,
                                 const ActivationScale& scale) const {
  for (const ActivationRangeEstimator& seen : estimators_) {
    if (seen.site() != name || seen.rows() == 0) continue;
    const QuantizationLoss loss = seen.measure(mode, scale);
    SiteFacts site = describe(seen);
    StaticFacts fixed = static_range(mode, scale);
    fixed.clipped_share = loss.clipped_share;
    fixed.clipped_energy = loss.clipped_energy;
    fixed.zeroed_share = loss.zeroed_share;
    fixed.relative_error = loss.relative_error;
    site.fixed = fixed;
    out.push_back(std::move(site));
  }
}

std::vector<SiteFacts> SiteObservation::static_facts(const Model& model) const {
  std::vector<SiteFacts> out;
  for (const Linear* linear : model.linears()) {
    const Parameter& weight = linear->parts().front().weight;
    if (!weight.scheme || !is_static(weight.scheme->activations)) continue;
    add_static(out, linear->site().name, weight.scheme->activations, weight.input);
  }
  for (const AttentionSite& products : model.attention_sites()) {
    if (!is_static(products.site.mode)) continue;
    const AttentionScales& scales = products.scales;
    const auto [qk, v] = scales.bits;
    for (const auto& [operand, scale] : {std::pair{"q", ActivationScale{.scale = scales.q, .bits = qk}},
                                         {"k", {.scale = scales.k, .bits = qk}},
                                         {"v", {.scale = scales.v, .bits = v}}})
      add_static(out, attention_operand(products.site, operand), products.site.mode, scale);
  }
  return out;
}

}  // namespace octet

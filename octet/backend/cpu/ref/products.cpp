// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/ref/products.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "octet/backend/cpu/ref/reference.h"
#include "octet/quant/quantize.h"
#include "octet/tensor/half.h"

namespace octet::cpu::ref {
namespace {

// A panel as the numbers that it stands for, less `zero` where they are codes: a stored zero point less kStoredBeyond,
// or kZero where none is stored.
struct Floats {
  static constexpr int kZero = 0, kStoredBeyond = 0;
  Floats(const void* panels, int64_t first, int) : w(static_cast<const float*>(panels) + first) {}
  const float* w;
  float operator()(int64_t k) const { return w[k]; }
};
template <class Sixteen>
struct Halves {
  static constexpr int kZero = 0, kStoredBeyond = 0;
  Halves(const void* panels, int64_t first, int) : w(static_cast<const Sixteen*>(panels) + first) {}
  const Sixteen* w;
  float operator()(int64_t k) const { return to_float(w[k]); }
};
struct Bytes {
  static constexpr int kZero = 0, kStoredBeyond = 128;
  Bytes(const void* panels, int64_t first, int zero_point)
      : w(static_cast<const int8_t*>(panels) + first), zero(zero_point) {}
  const int8_t* w;
  int zero;
  int operator()(int64_t k) const { return w[k] - zero; }
};
struct Nibbles {
  static constexpr int kZero = 8, kStoredBeyond = 0;
  Nibbles(const void* panels, int64_t first, int zero_point)
      : w(static_cast<const uint8_t*>(panels) + first / 2), zero(zero_point) {}
  const uint8_t* w;
  int zero;
  int operator()(int64_t k) const { return (k % 2 == 0 ? w[k / 2] & 15 : w[k / 2] >> 4) - zero; }
};

// The groups of one panel.
struct PanelGroups {
  PanelGroups(const Groups& groups, int64_t panel, int64_t k)
      : all(groups), at(panel * groups.panel_stride), size(groups.size != 0 ? groups.size : k) {}
  float scale(int64_t group) const { return all.scales[at + group * all.stride]; }
  template <class Weights>
  int zero(int64_t group) const {
    if (all.zeros != nullptr) return all.zeros[at + group * all.stride] - Weights::kStoredBeyond;
    return all.minima != nullptr ? 0 : Weights::kZero;
  }
  float minimum(int64_t group) const { return all.minima[at + group * all.stride]; }

  const Groups& all;
  int64_t at, size;
};

// What a minimum meets, added up here anew, though the sums are given, so that other kernels' are held against them.
template <class Element, class Sum>
Sum sum(const Element* x, int64_t count, Sum start) {
  for (int64_t k = 0; k < count; ++k) start += x[k];
  return start;
}

template <class Weights>
void float_product(const FloatProduct& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* x = p.x + r * p.x_stride;
    for (int64_t c = 0; c < p.panel_count; ++c) {
      const PanelGroups groups(p.groups, c, p.depth);
      float& out = p.tile[r * p.tile_stride + c];
      float t = p.start == Start::kFromTile ? out : 0.0f;
      for (int64_t k = 0, g = 0; k < p.depth; k += groups.size, ++g) {
        const Weights weights(p.panels, c * p.panel_stride, groups.zero<Weights>(g));
        if (p.groups.size == 0) {
          t = reference::dot(x, weights, k, k + groups.size, t);
        } else {
          t = std::fma(reference::dot(x, weights, k, k + groups.size, 0.0f), groups.scale(g), t);
          if (p.groups.minima != nullptr) t = std::fma(groups.minimum(g), sum(x + k, groups.size, 0.0f), t);
        }
      }
      out = t;
    }
  }
}

template <class Weights>
void int8_product(const Int8Product& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const int8_t* codes = static_cast<const int8_t*>(p.codes) + r * p.codes_stride;
    for (int64_t c = 0; c < p.panel_count; ++c) {
      const PanelGroups groups(p.groups, c, p.depth);
      const int64_t at = r * p.tile_stride + c;
      float t = 0.0f;
      for (int64_t first = 0, g = 0; first < p.depth; first += groups.size, ++g) {
        const Weights weights(p.panels, c * p.panel_stride, groups.zero<Weights>(g));
        const int64_t last = std::min(p.depth, first + groups.size);
        int32_t total = p.start == Start::kFromTile ? static_cast<const int32_t*>(p.tile)[at] : 0;
        if (const auto& columns = p.column_sums; columns.sums != nullptr) {
          total += columns.factor * columns.sums[c * columns.panel_stride + g * columns.stride];
        }
        for (int64_t k = first; k < last; ++k) total += codes[k] * weights(k);
        if (p.groups.size == 0) {
          static_cast<int32_t*>(p.tile)[at] = total;
        } else {
          t = std::fma(static_cast<float>(total), groups.scale(g), t);
          if (p.groups.minima != nullptr) {
            t = std::fma(groups.minimum(g), static_cast<float>(sum(codes + first, last - first, 0)), t);
          }
        }
      }
      if (p.groups.size != 0) static_cast<float*>(p.tile)[at] = t;
    }
  }
}

template <class Weights>
void widen(const Widen& w) {
  const PanelGroups groups(w.groups, 0, w.depth);
  for (int64_t first = 0, g = 0; first < w.depth; first += groups.size, ++g) {
    const Weights weights(w.codes, 0, groups.zero<Weights>(g));
    for (int64_t k = first; k < first + groups.size; ++k) w.out[k] = static_cast<float>(weights(k));
  }
}

}  // namespace

void product_f32(const FloatProduct& p) { float_product<Floats>(p); }
void product_f16(const FloatProduct& p) { float_product<Halves<Half>>(p); }
void product_bf16(const FloatProduct& p) { float_product<Halves<BFloat16>>(p); }
void product_w8a16(const FloatProduct& p) { float_product<Bytes>(p); }
void product_w4a16(const FloatProduct& p) { float_product<Nibbles>(p); }
void product_w8a8(const Int8Product& p) { int8_product<Bytes>(p); }
void product_w4a8(const Int8Product& p) { int8_product<Nibbles>(p); }
void widen_f16(const Widen& w) { widen<Halves<Half>>(w); }
void widen_bf16(const Widen& w) { widen<Halves<BFloat16>>(w); }
void widen_w8(const Widen& w) { widen<Bytes>(w); }
void widen_w4(const Widen& w) { widen<Nibbles>(w); }

uint32_t absmax_bits(const float* x, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

void quantize(const QuantizeRow& q) {
  int8_t* codes = static_cast<int8_t*>(q.codes);
  std::fill(codes, codes + plain_row_bytes(q.depth), int8_t{0});
  for (int64_t k = 0; k < q.depth; ++k) {
    if (k % q.step == 0) q.sums[k / q.step] = 0;
    const float step = std::nearbyint(std::clamp(q.x[k] * q.inverse, q.low, q.high));
    codes[k] = static_cast<int8_t>(static_cast<int>(step) + q.offset);
    q.sums[k / q.step] += codes[k];
  }
}

void arrange(const ArrangeRow& a) {
  int8_t* codes = static_cast<int8_t*>(a.codes);
  std::fill(codes, codes + plain_row_bytes(a.depth), int8_t{0});
  for (int64_t k = 0; k < a.depth; ++k) {
    if (k % a.step == 0) a.sums[k / a.step] = 0;
    codes[k] = a.given[k];
    a.sums[k / a.step] += codes[k];
  }
}

void absmax_rows(const AbsmaxRows& a) {
  for (int64_t r = 0; r < a.rows; ++r) a.bits[r] = absmax_bits(a.x + r * a.stride, a.cols);
}

void quantize_rows(const QuantizeRows& q) {
  for (int64_t r = 0; r < q.rows; ++r) {
    const float* x = q.x + r * q.x_stride;
    const float inverse = q.inverses[r];
    int8_t* codes = q.codes + r * q.codes_stride;  // whose sums this product does not look at
    for (int64_t k = 0; k < plain_row_bytes(q.cols); ++k) {
      int code = 0;
      if (k < q.cols && !std::isnan(inverse))
        code = static_cast<int>(std::nearbyint(std::clamp(x[k] * inverse, q.low, q.high)));
      codes[k] = static_cast<int8_t>(code ^ q.flip);
    }
  }
}

void pack_keys(const PackTokens& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    std::copy_n(p.codes + r * p.stride, p.cols, p.panels + (p.first + r) * p.panel_stride);
  }
}

void pack_values(const PackTokens& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.cols; ++c) p.panels[c * p.panel_stride + p.first + r] = p.codes[r * p.stride + c];
  }
}

void scale_sums(const ScaleSums& s) {
  for (int64_t i = 0; i < s.count; ++i) s.y[i] = static_cast<float>(s.sums[i]) * s.scale * s.factor;
}

}  // namespace octet::cpu::ref

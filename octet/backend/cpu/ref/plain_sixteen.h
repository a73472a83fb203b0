// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

// Sixteen lanes as plain floats, for what is written once over lanes (vector_gradients.h) and has no reading of its
// own in reference.h: its tests compare with finite differences in double.
namespace octet::cpu {
namespace {

struct PlainSixteen {
  std::array<float, 16> v;

  template <class F>
  static PlainSixteen make(F f) {
    PlainSixteen out{};
    for (size_t i = 0; i < 16; ++i) out.v[i] = f(i);
    return out;
  }
  static PlainSixteen all(float x) {
    return make([x](size_t) { return x; });
  }
  static PlainSixteen load(const float* p) {
    return make([p](size_t i) { return p[i]; });
  }
  static PlainSixteen load_first(const float* p, int64_t n) {
    return make([=](size_t i) { return static_cast<int64_t>(i) < n ? p[i] : 0.0f; });
  }
  static PlainSixteen choose_first(const PlainSixteen& yes, const PlainSixteen& no, int64_t n) {
    return make([&](size_t i) { return static_cast<int64_t>(i) < n ? yes.v[i] : no.v[i]; });
  }
  void store(float* p) const { std::copy(v.begin(), v.end(), p); }
  void store_first(float* p, int64_t n) const { std::copy_n(v.begin(), n, p); }
  float sum() const {
    std::array<float, 16> partial = v;
    for (const size_t width : {8, 4, 2, 1}) {
      for (size_t i = 0; i < width; ++i) partial[i] += partial[i + width];
    }
    return partial[0];
  }

  friend PlainSixteen operator+(const PlainSixteen& a, const PlainSixteen& b) {
    return make([&](size_t i) { return a.v[i] + b.v[i]; });
  }
  friend PlainSixteen operator-(const PlainSixteen& a, const PlainSixteen& b) {
    return make([&](size_t i) { return a.v[i] - b.v[i]; });
  }
  friend PlainSixteen operator*(const PlainSixteen& a, const PlainSixteen& b) {
    return make([&](size_t i) { return a.v[i] * b.v[i]; });
  }
  friend PlainSixteen operator/(const PlainSixteen& a, const PlainSixteen& b) {
    return make([&](size_t i) { return a.v[i] / b.v[i]; });
  }
};

inline PlainSixteen fma(const PlainSixteen& a, const PlainSixteen& b, const PlainSixteen& c) {
  return PlainSixteen::make([&](size_t i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline PlainSixteen fms(const PlainSixteen& a, const PlainSixteen& b, const PlainSixteen& c) {
  return PlainSixteen::make([&](size_t i) { return std::fma(a.v[i], b.v[i], -c.v[i]); });
}
inline PlainSixteen min(const PlainSixteen& a, const PlainSixteen& b) {
  return PlainSixteen::make([&](size_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline PlainSixteen max(const PlainSixteen& a, const PlainSixteen& b) {
  return PlainSixteen::make([&](size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline PlainSixteen sqrt(const PlainSixteen& a) {
  return PlainSixteen::make([&](size_t i) { return std::sqrt(a.v[i]); });
}
inline PlainSixteen abs(const PlainSixteen& a) {
  return PlainSixteen::make([&](size_t i) { return std::fabs(a.v[i]); });
}
inline PlainSixteen copy_sign(const PlainSixteen& magnitude, const PlainSixteen& sign) {
  return PlainSixteen::make([&](size_t i) { return std::copysign(magnitude.v[i], sign.v[i]); });
}
inline PlainSixteen if_less(const PlainSixteen& a, const PlainSixteen& b, const PlainSixteen& yes,
                            const PlainSixteen& no) {
  return PlainSixteen::make([&](size_t i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; });
}
// 2^n for t = 1.5 · 2^23 + n, n ≤ 127; 0 for n < -126.
inline PlainSixteen power_of_two(const PlainSixteen& t) {
  return PlainSixteen::make([&](size_t i) {
    const int32_t n = std::bit_cast<int32_t>(t.v[i]) - std::bit_cast<int32_t>(0x1.8p23f);
    return std::bit_cast<float>(static_cast<uint32_t>(std::max(n + 127, 0)) << 23);
  });
}

}  // namespace
}  // namespace octet::cpu

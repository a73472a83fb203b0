// SPDX-License-Identifier: Apache-2.0
#include "bench/peer_products.h"

#include <cstring>
#include <tuple>
#include <utility>

#ifdef OCTET_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef OCTET_BENCH_ONEDNN
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace octet::bench {
namespace {

#if defined(OCTET_BENCH_OPENBLAS) || defined(OCTET_BENCH_ONEDNN)
// Numbers in [-0.5, 0.5) without a pattern that a product could profit from.
std::vector<float> some_floats(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
  }
  return values;
}
#endif

#ifdef OCTET_BENCH_OPENBLAS
class OpenBlasProduct : public PeerProduct {
 public:
  OpenBlasProduct(int64_t m, int64_t n, int64_t k, int64_t copies)
      : m_(m), n_(n), k_(k), x_(some_floats(m * k)), y_(static_cast<size_t>(m * n)) {
    weights_.assign(static_cast<size_t>(copies), some_floats(n * k));
  }
  void run(int64_t copy) override {
    const float* w = weights_[static_cast<size_t>(copy) % weights_.size()].data();
    const int m = static_cast<int>(m_), n = static_cast<int>(n_), k = static_cast<int>(k_);
    // Its matrix-vector product is the faster one for a single row.
    if (m == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, w, k, x_.data(), 1, 0, y_.data(), 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, x_.data(), k, w, k, 0, y_.data(), n);
    }
  }
  int64_t weight_bytes() const override { return n_ * k_ * 4; }

 private:
  int64_t m_, n_, k_;
  std::vector<float> x_, y_;
  std::vector<std::vector<float>> weights_;
};
#endif

#ifdef OCTET_BENCH_ONEDNN
using DataType = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::matmul::primitive_desc describe(int64_t m, int64_t n, int64_t k, DataType x, DataType w, DataType y) {
  const dnnl::memory::desc source({m, k}, x, Tag::ab), weights({k, n}, w, Tag::any), target({m, n}, y, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), source, weights, target};
#else
  return {dnnl::matmul::desc(source, weights, target), engine()};
#endif
}

class OneDnnProduct : public PeerProduct {
 public:
  OneDnnProduct(int64_t m, int64_t n, int64_t k, DataType x, DataType w, DataType y,
                const std::function<int64_t(int64_t)>& copies)
      : description_(describe(m, n, k, x, w, y)),
        product_(description_),
        stream_(engine()),
        x_(description_.src_desc(), engine()),
        plain_({{k, n}, w, Tag::ba}, engine()),
        y_(description_.dst_desc(), engine()) {
    if (x == DataType::f32) {
      fill(x_, some_floats(m * k));
      fill(plain_, some_floats(n * k));
    } else {
      fill_codes(x == DataType::u8 ? 255 : 127, 127);
    }
    const int64_t count = copies(weight_bytes());
    for (int64_t i = 0; i < count; ++i) weights_.emplace_back(description_.weights_desc(), engine());
    pack();
  }

  void run(int64_t copy) override {
    dnnl::memory& weights = weights_[static_cast<size_t>(copy) % weights_.size()];
    product_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, y_}});
    stream_.wait();
  }
  int64_t weight_bytes() const override { return static_cast<int64_t>(description_.weights_desc().get_size()); }

  int32_t first_sum() const { return *static_cast<const int32_t*>(y_.get_data_handle()); }

 private:
  template <class T>
  static void fill(dnnl::memory& memory, const std::vector<T>& values) {
    std::memcpy(memory.get_data_handle(), values.data(), values.size() * sizeof(T));
  }
  // The largest codes everywhere: the time does not depend on them, and the sums are known.
  void fill_codes(int x, int w) {
    std::memset(x_.get_data_handle(), x, x_.get_desc().get_size());
    std::memset(plain_.get_data_handle(), w, plain_.get_desc().get_size());
  }
  void pack() {
    for (dnnl::memory& weights : weights_) dnnl::reorder(plain_, weights).execute(stream_, plain_, weights);
    stream_.wait();
    plain_ = {};
  }

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul product_;
  dnnl::stream stream_;
  dnnl::memory x_, plain_, y_;
  std::vector<dnnl::memory> weights_;
};

Peer onednn(std::string name, DataType x, DataType w, DataType y) {
  return {PeerKind::kOneDnn, std::move(name), x != DataType::f32,
          [=](int64_t m, int64_t n, int64_t k,
              const std::function<int64_t(int64_t)>& copies) -> std::unique_ptr<PeerProduct> {
            try {
              return std::make_unique<OneDnnProduct>(m, n, k, x, w, y, copies);
            } catch (const dnnl::error& error) {
              if (error.status == dnnl_unimplemented) return nullptr;
              throw;
            }
          }};
}
#endif

}  // namespace

std::vector<Peer> peers() {
  std::vector<Peer> all;
#ifdef OCTET_BENCH_OPENBLAS
  all.push_back({PeerKind::kOpenBlas, "OpenBLAS fp32", false,
                 [](int64_t m, int64_t n, int64_t k, const std::function<int64_t(int64_t)>& copies) {
                   return std::make_unique<OpenBlasProduct>(m, n, k, copies(n * k * 4));
                 }});
#endif
#ifdef OCTET_BENCH_ONEDNN
  all.push_back(onednn("oneDNN fp32", DataType::f32, DataType::f32, DataType::f32));
  all.push_back(onednn("oneDNN u8·s8", DataType::u8, DataType::s8, DataType::s32));
  all.push_back(onednn("oneDNN s8·s8", DataType::s8, DataType::s8, DataType::s32));
#endif
  return all;
}

std::vector<std::string> missing_peers() {
  std::vector<std::string> missing;
#ifndef OCTET_BENCH_OPENBLAS
  missing.push_back("OpenBLAS (Debian's libopenblas-dev)");
#endif
#ifndef OCTET_BENCH_ONEDNN
  missing.push_back("oneDNN (Debian's libdnnl-dev)");
#endif
  return missing;
}

void set_peer_threads([[maybe_unused]] int threads) {
#ifdef OCTET_BENCH_OPENBLAS
  openblas_set_num_threads(threads);
#endif
#ifdef OCTET_BENCH_ONEDNN
  omp_set_num_threads(threads);
#endif
}

std::vector<ExtremeSum> peer_extreme_sums([[maybe_unused]] int64_t k) {
  std::vector<ExtremeSum> sums;
#ifdef OCTET_BENCH_ONEDNN
  for (const auto& [name, type, code] :
       {std::tuple("oneDNN u8·s8", DataType::u8, 255), std::tuple("oneDNN s8·s8", DataType::s8, 127)}) {
    try {
      OneDnnProduct product(16, 64, k, type, DataType::s8, DataType::s32, [](int64_t) { return 1; });
      product.run(0);
      sums.push_back({name, product.first_sum() / (127.0 * code * static_cast<double>(k))});
    } catch (const dnnl::error& error) {
      if (error.status != dnnl_unimplemented) throw;
    }
  }
#endif
  return sums;
}

}  // namespace octet::bench

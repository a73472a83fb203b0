// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// The same products in OpenBLAS and oneDNN, as far as they were there when this was built.
namespace octet::bench {

/// y [M, N] = x [M, K] Wᵀ, W [N, K], on numbers that do not matter. Several copies of the weights keep them out of the
/// cache. A peer has its weights in whatever layout it likes best, made beforehand; an integer product ends with the
/// int32 sums, without Octet's quantizing before and rescaling after it.
class PeerProduct {
 public:
  virtual ~PeerProduct() = default;
  virtual void run(int64_t copy) = 0;
  virtual int64_t weight_bytes() const = 0;  ///< of one copy
};

enum class PeerKind { kOpenBlas, kOneDnn };

struct Peer {
  PeerKind engine;
  std::string name;  ///< "oneDNN u8·s8"
  bool integer;
  /// copies(bytes) says how many copies of weights of that size to make. nullptr where the engine has no such product.
  std::function<std::unique_ptr<PeerProduct>(int64_t m, int64_t n, int64_t k,
                                             const std::function<int64_t(int64_t)>& copies)>
      make;
};

/// Those that are built in.
std::vector<Peer> peers();
/// The names of those that are not, and what would bring them.
std::vector<std::string> missing_peers();

/// How many threads the peers may use from now on.
void set_peer_threads(int threads);

struct ExtremeSum {
  std::string name;
  double share;  ///< of the true sum
};
/// What each integer product makes of a sum over K of the largest codes, 255 · 127 or 127 · 127.
std::vector<ExtremeSum> peer_extreme_sums(int64_t k);

}  // namespace octet::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/activation.h"
#include "octet/backend/nonlinearity.h"
#include "octet/backend/pooling.h"
#include "octet/tensor/dtype.h"
#include "octet/tensor/scheme.h"

/// What training asks of a backend: the gradients of its operations. dx is the gradient of the loss by x, of x's shape.
/// Gradients of matrices are written, or added to what is there where `adds`; those of parameters (gamma, beta, biases,
/// tables) are always added. All sums run in an order that depends on neither threads nor instruction set.
namespace octet {

/// Elements that become 0, each with `probability`, while the others are multiplied by 1 / (1 - probability)
/// (Srivastava et al., 2014): element i falls out where word i mod 4 of Philox's bits for the counter (i / 4, its high
/// half, stream, step), with the seed as key, is below probability · 2^32.
struct Dropout {
  float probability = 0;  ///< in [0, 1)
  uint64_t seed = 0;
  uint32_t step = 0, stream = 0;
};

/// y = nonlinearity(x). y may be x.
struct NonlinearityOp {
  Activation x;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  Activation y;
};

/// dx = dy · nonlinearity'(x). dx may be dy.
struct NonlinearityGradientOp {
  Activation x;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  Activation dy, dx;
};

/// Of GatedOp: dx [rows, 2 · cols].
struct GatedGradientOp {
  Activation x;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  Activation dy, dx;
};

/// Of LayerNormOp, or of RmsNormOp where there is no dbeta: x is what it read; mean and length are taken of it again.
struct NormGradientOp {
  Activation x;
  DeviceSpan gamma;  ///< fp32 [cols]
  float eps = 0;
  Activation dy;
  Activation dx;  ///< may be dy where it does not add
  bool adds = false;
  DeviceSpan dgamma, dbeta = {};  ///< fp32 [cols]
};

/// Of AttentionOp without a cache and in floats; what it reads is as there. Probabilities are computed again.
struct AttentionGradientOp {
  Activation q, k, v, dy;
  Activation dq, dk, dv;  ///< written; as q, k and v are laid out
  int64_t heads = 0, kv_heads = 0, head_width = 0;
  int64_t head_stride = head_width;  ///< of q, k, v and their gradients; heads of dy lie side by side
  float scale = 0;
  DeviceSpan offsets;  ///< int32 [sequences + 1]
  int64_t sequences = 0;
  int64_t longest = 0;
  bool causal = false;
  int64_t window = 0;
  Dropout dropout = {};  ///< that of the forward pass
};

/// Of PoolOp, but for kMax: rows of dx get their share of their sequence's row of dy.
struct PoolGradientOp {
  Activation dy;       ///< [sequences, cols]
  DeviceSpan offsets;  ///< int32 [sequences + 1]
  Pooling pooling = Pooling::kMean;
  Activation dx;
};

/// Of one lookup of EmbedOp: dtable[index[t]] += dy[t], t ascending.
struct EmbedGradientOp {
  DeviceSpan indices;  ///< int32 [rows of dy], inside the table: callers check
  Activation dy;
  Activation dtable;  ///< [entries, cols]
};

/// sums[c] += Σ x[r][c]: the gradient of a bias.
struct ColumnSumsOp {
  Activation x;
  DeviceSpan sums;  ///< fp32 [cols]
};

/// y += x
struct AddOp {
  Activation x, y;
};

/// y = x, dropped: row-major element i is the dropout's. The gradient is the same of dy. y may be x.
struct DropoutOp {
  Activation x;
  Dropout dropout;
  Activation y;
};

/// y = what quantizing leaves of x: (code - zero_point) · scale, the codes being those that LinearOp makes of its x for
/// a weight that was packed for `mode`, kDynamicPerToken or static. y may be x.
struct RoundTripOp {
  Activation x;
  ActivationMode mode = ActivationMode::kDynamicPerToken;
  ActivationScale scale = {};  ///< of static ones
  Activation y;
};

/// The straight-through gradient (Bengio, Léonard and Courville, 2013) of a RoundTripOp with a static scale: dx = dy
/// where x · (1 / scale) lies within the codes, else 0. For INT8, with c = 127 · scale,
///
///   dclip += Σ_{x > c} dy - Σ_{x < -c} dy + inside · Σ_{else} dy · (y - x) / c
///
/// is the gradient by the clip c: of PACT (Choi et al., 2018), on both sides of 0, for inside = 0, and for 1 with what
/// the clip does to the steps within it (Esser et al., 2020). UINT8 has two ends, low = -zero_point · scale and
/// high = low + 255 · scale, each with a gradient of its own (LSQ+, Bhalgat et al., 2020, by its ends instead of by
/// scale and offset). Of fewer bits b, 2^(b-1) - 1 stands for 127 and 2^b - 1 for 255:
///
///   e = inside · Σ_{else} dy · (y - x) / (high - low)
///   dclip[0] += Σ_{x < low} dy - e,  dclip[1] += Σ_{x > high} dy + e
///
/// Sums are in double, in blocks of rows.
struct ClipGradientOp {
  Activation x, dy;
  ActivationMode mode = ActivationMode::kStaticPerTensor;
  ActivationScale scale = {};
  Activation dx;  ///< may be dy where it does not add
  bool adds = false;
  float inside = 0;
  float factor = 1;       ///< on what is added to dclip
  DeviceSpan dclip = {};  ///< fp32 [1], or of UINT8 [2]; empty: not wanted
};

/// Cross-entropy of rows of logits: loss_r = log Σ exp(x_r) - x_r[label], and dx = (softmax(x) - onehot(label)) ·
/// factor. Rows whose label is negative have no loss and the gradient 0. dx may be x.
struct CrossEntropyOp {
  Activation x;
  DeviceSpan labels;  ///< int32 [rows], below cols: callers check
  float factor = 1;
  DeviceSpan losses;  ///< fp32 [rows]
  Activation dx;
};

/// Knowledge distillation (Hinton, Vinyals and Dean, 2015) of rows of logits: with q = softmax(teacher / T) and
/// p = softmax(x / T), loss_r = T² · Σ q · (log q - log p) and dx = (p - q) · T · factor. Rows whose label is negative
/// have no loss and the gradient 0. dx may be x or teacher.
struct DistillOp {
  Activation x, teacher;
  DeviceSpan labels;  ///< int32 [rows], of which the sign counts
  float temperature = 1;
  float factor = 1;
  DeviceSpan losses;  ///< fp32 [rows]
  Activation dx;
};

/// How far rows are from others: loss_r = Σ (x_r - target_r)², summed in double, and dx = 2 · factor · (x - target). dx
/// may be x or target.
struct SquaredErrorOp {
  Activation x, target;
  float factor = 1;
  DeviceSpan losses;  ///< fp32 [rows]
  Activation dx;
};

/// How an optimizer's step stores what it computes in fp32. To 16 bits it rounds stochastically (Gupta et al., 2015),
/// or most steps would be too small to change anything: a number between two neighbours becomes either, each the
/// likelier the nearer it is. With Philox's words for the counter (i / 8, its high half, 4 · stream + n, step) and the
/// seed as key, element i of the op's vector n (weights, then m and v as they come) has the low half of word (i mod 8)
/// / 2 for even i, the high half for odd ones.
struct UpdateStorage {
  DType weights = DType::kF32, moments = DType::kF32;  ///< or fp16, or bf16
  uint64_t seed = 0;
  uint32_t step = 0, stream = 0;  ///< another one for each parameter
};

/// A step of stochastic gradient descent with momentum:  v ← momentum · v + g + decay · w,  w ← w - rate · v
struct SgdOp {
  DeviceSpan weights;   ///< [count], as storage says
  DeviceSpan gradient;  ///< fp32 [count]
  DeviceSpan v;         ///< [count], a moment
  int64_t count = 0;
  float rate = 0, momentum = 0, decay = 0;
  float gradient_factor = 1;
  UpdateStorage storage = {};
};

/// A step of Adam with decoupled weight decay (Loshchilov and Hutter, 2019), element by element:
///
///   m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²
///   w ← w - rate · (decay · w + (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps))
///
/// g being gradient_factor · the gradient. In 16 bits √v is stored: g² would be too small for fp16.
struct AdamwOp {
  DeviceSpan weights;   ///< [count], as storage says
  DeviceSpan gradient;  ///< fp32 [count]
  DeviceSpan m, v;      ///< [count], moments
  int64_t count = 0;
  float rate = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, decay = 0;
  float correction1 = 1, correction2 = 1;  ///< 1 - β₁ᵗ and 1 - β₂ᵗ
  float gradient_factor = 1;
  UpdateStorage storage = {};
};

}  // namespace octet

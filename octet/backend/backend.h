// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/activation.h"
#include "octet/backend/gradient_ops.h"
#include "octet/backend/nonlinearity.h"
#include "octet/backend/pooling.h"
#include "octet/backend/rotary_layout.h"
#include "octet/tensor/qtensor.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// A weight in the layout that one backend's products read. It holds the codes and scales (or float values) and nothing
/// else of that size; made by Backend::pack, understood by the same backend alone.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t rows() const noexcept = 0;   ///< outputs
  virtual int64_t cols() const noexcept = 0;   ///< inputs
  virtual int64_t bytes() const noexcept = 0;  ///< memory it takes
};

/// A table of rows to look up, [rows, cols], in its stored float dtype. On the CPU it reads the tensor where it lies.
struct DeviceTable {
  DeviceSpan memory;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;

  DeviceTable row_range(int64_t first, int64_t count) const {
    const int64_t row_bytes = cols * byte_size(dtype);
    return {memory.slice(first * row_bytes, count * row_bytes), dtype, count, cols};
  }
};

/// What may be done to the rows of a product's x before it reads them: a normalization (see LayerNormOp and RmsNormOp),
/// so that each row is normalized and quantized while it is in a cache.
struct NormalizeRows {
  DeviceSpan gamma;      ///< fp32 [cols]
  DeviceSpan beta = {};  ///< empty: RmsNormOp
  float eps = 0;
  std::optional<Activation> y = {};  ///< where the normalized rows are wanted besides; may be x
};

/// y = nonlinearity(x · Wᵀ + bias) + residual.        x [M, K], W [N, K], bias [N], residual and y [M, N]
struct LinearOp {
  Activation x;  ///< fp32, or the codes of `input` for a weight that was packed for static activations
  const PackedWeight* weight = nullptr;
  DeviceSpan bias = {};  ///< fp32; empty: none
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  std::optional<Activation> residual = {};  ///< may be y itself
  std::optional<NormalizeRows> normalize = {};
  Activation y;                ///< fp32 or codes
  int site = 0;                ///< whom to name if x holds NaN or infinity while it is quantized
  ActivationScale input = {};  ///< how x is quantized, for a weight that was packed for static activations
};

/// A matrix as it lies, its rows `stride` elements apart: fp32, or INT8 codes, the code c in row r meaning c ·
/// scales[r]. Owns nothing.
struct MatrixView {
  DeviceSpan memory;
  int64_t rows = 0, cols = 0, stride = 0;
  DeviceSpan scales = {};  ///< fp32 [rows]; empty: memory holds fp32

  bool holds_codes() const noexcept { return !scales.empty(); }
};

/// Which side of a product of matrices is turned around.
enum class Turned : uint8_t {
  kB,     ///< y = a · bᵀ      a [M, K], b [N, K]      outputs of a layer: y = x · Wᵀ
  kNone,  ///< y = a · b       a [M, K], b [K, N]      gradients of its inputs: dx = dy · W
  kA,     ///< y = aᵀ · b      a [K, M], b [K, N]      gradients of its weights: dW = dyᵀ · x
};

/// y [M, N] = a · b, or y + a · b, of matrices as they lie: b is laid out panel by panel while it is multiplied,
/// because it is another every time. For weights that stay there is LinearOp.
///
/// fp32: every sum runs by fma over ascending k, from 0 or on from y. Codes (not kA): each row of a, for kNone times
/// the scales of b's rows first, is quantized as LinearOp does it for dynamic activations; for kB the result is that
/// of a LinearOp whose weight was packed from the same codes. What is in y is then added.
struct MatmulOp {
  Activation a;  ///< fp32
  MatrixView b;
  Turned turned = Turned::kB;
  bool adds = false;
  Activation y;  ///< fp32; overlaps neither
  int site = 0;  ///< whom to name if a holds NaN or infinity while it is quantized
};

/// y[t] = Σ over lookups of table[index[t]], summed in their order.       indices int32 [rows]; y [rows, cols]
struct EmbedOp {
  struct Lookup {
    DeviceTable table;
    DeviceSpan indices;  ///< inside the table: callers check
    /// Rows of a quantized weight instead: value = (code - zero_point) · scale. `table` is not read then.
    const PackedWeight* packed = nullptr;
  };
  std::span<const Lookup> lookups;
  Activation y;
};

/// y = x in fp32, which is exact.
struct WidenOp {
  DeviceTable x;
  Activation y;  ///< [rows, cols] of x
};

/// Layer normalization (Ba, Kiros and Hinton, 2016), row by row: y = (x - mean) / sqrt(variance + eps) · gamma + beta.
/// y may be x.
struct LayerNormOp {
  Activation x;
  DeviceSpan gamma, beta;  ///< fp32 [cols]
  float eps = 0;
  Activation y;
};

/// Root-mean-square normalization (Zhang and Sennrich, 2019), row by row: y = x / sqrt(mean(x²) + eps) · gamma.
/// y may be x.
struct RmsNormOp {
  Activation x;
  DeviceSpan gamma;  ///< fp32 [cols]
  float eps = 0;
  Activation y;
};

/// Heads side by side in the columns of a matrix: head h is columns [h · stride, h · stride + width). What lies between
/// them, as keys and values between the queries of a product that has them head by head, belongs to others.
struct HeadColumns {
  int64_t count = 0, width = 0;
  int64_t stride = width;

  int64_t columns() const noexcept { return (count - 1) * stride + width; }  ///< from the first head's to the last's
};

/// Rotary position embedding (Su et al., 2021) in place, on every head of x: the two columns of pair i of a head turn
/// by the angle position · frequencies[i], and come out times `factor`. Columns of a head from rotary_width on stay as
/// they are.
struct RopeOp {
  Activation x;  ///< [rows, heads.columns()]
  HeadColumns heads;
  int64_t rotary_width = 0;  ///< even, at most heads.width
  RotaryLayout layout = RotaryLayout::kHalves;
  DeviceSpan positions;    ///< int32 [rows], not negative
  DeviceSpan frequencies;  ///< fp32 [rotary_width / 2], radians a position
  float factor = 1;        ///< of YaRN (Peng et al., 2023), on sine and cosine
  bool backward = false;   ///< turns the other way: what its gradient does
};

/// A gated unit (Shazeer, 2020): y[r, c] = nonlinearity(x[r, c]) · x[r, cols + c], cols being y's.
struct GatedOp {
  Activation x;  ///< [rows, 2 · cols]: the gate, then what it lets through
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  Activation y;  ///< [rows, cols], fp32 or codes; may not overlap x
};

/// Keys and values of the tokens that each sequence has had, in blocks of kKvBlockTokens; a block holds those of all
/// layers, in a layout that only its backend knows (Backend::kv_bytes). Owns nothing.
struct KvBlocks {
  DeviceSpan addresses;     ///< DeviceSpan::address() of every block: sequence by sequence, in order of tokens
  DeviceSpan first_block;   ///< int32 [sequences + 1]: sequence b has addresses [first_block[b], first_block[b+1])
  DeviceSpan past;          ///< int32 [sequences]: tokens whose keys and values are there
  int64_t layer_bytes = 0;  ///< of a block, before what this layer keeps there
  DType dtype = DType::kF32;
};
inline constexpr int64_t kKvBlockTokens = 64;

/// Softmax attention within each sequence of a ragged batch (Vaswani et al., 2017): rows [offsets[b], offsets[b+1]) of
/// q, k, v and y belong to sequence b. Head h of q and y reads head h / (heads / kv_heads) of k and v (grouped queries:
/// Ainslie et al., 2023); heads of y lie side by side, those of q, k and v `head_stride` columns apart. A row sees
/// every row of its sequence, or, causal, those up to itself, of these only the last `window` where that is not 0.
///
/// With `cache` the rows follow the tokens that their sequence has there already: k and v are added to the cache, and
/// read back from it, past ones and new ones alike, so that one pass and step by step give the same bits.
///
/// Both products are in INT8 where `activations` is kDynamicPerToken, every row of a head of q, k and v having a scale
/// of its own, or kStaticPerTensor, all rows of each having that of `scales`. The row of weights that meets v has its
/// own in both. A cache is I8 exactly then, and is to be read by the mode and scales that it was written by.
struct AttentionOp {
  Activation q, k, v;
  Activation y;  ///< fp32 or codes
  int64_t heads = 0, kv_heads = 0, head_width = 0;
  int64_t head_stride = head_width;
  float scale = 0;     ///< on q·k
  DeviceSpan offsets;  ///< int32 [sequences + 1], ascending, from 0 to rows
  int64_t sequences = 0;
  int64_t longest = 0;  ///< rows of the longest sequence
  bool causal = false;
  int64_t window = 0;
  std::optional<KvBlocks> cache = {};  ///< causal only; has room for the new rows
  ActivationMode activations = ActivationMode::kFloat;
  AttentionScales scales = {};  ///< of kStaticPerTensor
  /// Of what softmax gives, in training, without a cache: key j of row i and head h is element (i · heads + h) · 2^32 +
  /// j.
  Dropout dropout = {};
  int site = 0;  ///< whom to name if a row holds NaN or infinity while it is quantized
};

/// y[b] = pooled rows [offsets[b], offsets[b+1]) of x; a sequence of no rows gives zeros. Sums run over ascending rows.
struct PoolOp {
  Activation x;
  DeviceSpan offsets;  ///< int32 [sequences + 1]
  Pooling pooling = Pooling::kMean;
  Activation y;  ///< [sequences, cols]
};

/// A non-finite value met while quantizing: which site, and which row of its input.
struct NumericFault {
  int site;
  int64_t row;
};

/// The operations of transformers on one kind of device; the only code that touches data. Each follows the numerics
/// contract (docs/NUMERICS.md): its results do not depend on threads, instruction set or the other rows of a batch.
/// Operations run in the order of their calls; download waits for them. One thread at a time may use a backend.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string describe() const = 0;  ///< "cpu avx2, 2 threads"
  virtual int threads() const noexcept = 0;  ///< of the host that it may keep busy

  virtual DeviceSpan allocate(int64_t bytes) = 0;  ///< aligned to 64 bytes; throws Error where memory does not suffice
  virtual void free(DeviceSpan memory) noexcept = 0;
  virtual void upload(std::span<const std::byte> source, DeviceSpan target) = 0;
  virtual void download(DeviceSpan source, std::span<std::byte> target) = 0;
  /// All of source to the beginning of target, which may not overlap it.
  virtual void copy(DeviceSpan source, DeviceSpan target) = 0;
  virtual void fill_zero(DeviceSpan target) = 0;
  /// The rows of x, without the gaps that its stride leaves, as [rows, cols] fp32.
  virtual void download(const Activation& x, std::span<float> target) = 0;

  /// A float tensor [rows, cols] as a table; `tensor` must outlive it.
  virtual DeviceTable table(const Tensor& tensor) = 0;

  /// Weights [outᵢ, K] stacked along their outputs into one product. Float parts may have any float dtype: if all are
  /// fp16, or all bf16, they stay in 16 bits, which changes no result; any others become fp32. Quantized parts have one
  /// scheme and one group index.
  virtual std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts) = 0;
  virtual std::unique_ptr<PackedWeight> pack(std::span<const QTensor* const> parts, ActivationMode activations) = 0;
  /// The same of float values [outputs, inputs] in this backend's memory.
  virtual std::unique_ptr<PackedWeight> pack(const DeviceTable& values) = 0;
  /// The inverse of the packing of quantized weights: all parts as one [out, K], bit for bit what was packed.
  virtual QTensor unpack(const PackedWeight& packed) const = 0;

  /// Bytes that kKvBlockTokens tokens of one layer take in a KvBlocks of `dtype`: F32, F16, or I8 with an fp32 scale
  /// for each head's key and value.
  virtual int64_t kv_bytes(DType dtype, int64_t kv_heads, int64_t head_width) const = 0;

  virtual void embed(const EmbedOp& op) = 0;
  virtual void widen(const WidenOp& op) = 0;
  virtual void linear(const LinearOp& op) = 0;
  virtual void matmul(const MatmulOp& op) = 0;
  virtual void layer_norm(const LayerNormOp& op) = 0;
  virtual void rms_norm(const RmsNormOp& op) = 0;
  /// Throws ShapeError where an angle exceeds 2^20 radians.
  virtual void rope(const RopeOp& op) = 0;
  virtual void gated(const GatedOp& op) = 0;
  virtual void attention(const AttentionOp& op) = 0;
  virtual void pool(const PoolOp& op) = 0;
  /// Rows of x scaled to unit Euclidean length, in place; a row shorter than 1e-12 is divided by 1e-12.
  virtual void l2_normalize(const Activation& x) = 0;

  // What training needs besides: see gradient_ops.h.
  virtual void nonlinearity(const NonlinearityOp& op) = 0;
  virtual void nonlinearity_gradient(const NonlinearityGradientOp& op) = 0;
  virtual void gated_gradient(const GatedGradientOp& op) = 0;
  virtual void norm_gradient(const NormGradientOp& op) = 0;
  virtual void attention_gradient(const AttentionGradientOp& op) = 0;
  virtual void pool_gradient(const PoolGradientOp& op) = 0;
  virtual void embed_gradient(const EmbedGradientOp& op) = 0;
  virtual void column_sums(const ColumnSumsOp& op) = 0;
  virtual void add(const AddOp& op) = 0;
  virtual void dropout(const DropoutOp& op) = 0;
  virtual void round_trip(const RoundTripOp& op) = 0;
  virtual void clip_gradient(const ClipGradientOp& op) = 0;
  virtual void cross_entropy(const CrossEntropyOp& op) = 0;
  virtual void distill(const DistillOp& op) = 0;
  virtual void squared_error(const SquaredErrorOp& op) = 0;
  virtual void adamw(const AdamwOp& op) = 0;
  virtual void sgd(const SgdOp& op) = 0;
  /// Σ x² in double, blocks of 16,384 elements one after another, each in ascending order.
  virtual double squared_norm(DeviceSpan x, int64_t count) = 0;

  /// The first fault since the last call, if any; forgets it.
  virtual std::optional<NumericFault> take_fault() = 0;
};

}  // namespace octet

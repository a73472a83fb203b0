// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "octet/backend/nonlinearity.h"
#include "octet/backend/rotary_layout.h"

/// What an instruction set provides: functions on tiles and rows, each run by one thread. Kernel files are compiled
/// with their own flags and may include nothing with inline functions (the linker keeps one copy of those for
/// everybody, and it could be one this processor cannot run), so everything here is plain data.
///
/// A weight [N, K] is laid out in panels of `panel_width` outputs. Element (n, k) of fp32 lies at
///   [n / width][k][n % width];
/// PanelFormat says where others lie. Panels are padded to whole outputs, and to whole blocks of k.
namespace octet::cpu {

/// How a weight that is not fp32 lies in a panel: as
///   [k / interleave][n % width][k % interleave]
/// of 16-bit floats, bytes or nibbles. Each `nibble_block` nibbles share half as many bytes: the first half of them has
/// the low nibbles, the second half the high ones.
struct PanelFormat {
  int bits = 8;
  int interleave = 1;
  int nibble_block = 0;
  int8_t flip = 0;  ///< 8 bits: a byte is the code XOR this. Nibbles are the code, + 8 in symmetric schemes
};

/// Scales, zero points and minima of panels, each [panel][group][output of the panel], at their first panel and group.
struct Groups {
  /// k of a group; 0: all k are one, and its scale and minimum are for Finish, not for the product, to apply.
  int64_t size = 0;
  const float* scales = nullptr;
  /// What to take off a nibble, null: 8, or nothing where there are minima; or off a byte's code + 128, null: 128.
  const uint8_t* zeros = nullptr;
  const float* minima = nullptr;  ///< or null; never beside zeros
  int64_t panel_stride = 0;       ///< elements from one panel to the next,
  int64_t stride = 0;             ///< and from one group to the next; 0 where all have the same
};

enum class Start : uint8_t { kFromZero, kFromTile };

/// tile[r][c] = Σ_k x[r][k] · w[c][k] by fma over ascending k, c over all columns of the panels, w being the weight as
/// a float or (code - zero point). In groups: t = fma(Σ of the group, its scale, t), and with minima after it
/// t = fma(minimum, Σ x of the group, t), g ascending, and the tile holds t.
struct FloatProduct {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, depth = 0;   ///< depth is a multiple of the group's size
  const void* panels = nullptr;  ///< at the first k
  int64_t panel_stride = 0;      ///< elements, be they floats, halves, bytes or nibbles, from one panel to the next
  int64_t panel_count = 0;
  float* tile = nullptr;
  int64_t tile_stride = 0;
  Start start = Start::kFromZero;
  Groups groups = {};
  /// With minima in groups: Σ x of each group of the rows, from the first k on.
  const float* group_sums = nullptr;
  int64_t group_sums_stride = 0;
};

/// One panel made fp32, a code as (code - zero point) and a 16-bit float exactly, in the layout of fp32:
/// out[k][output].
struct Widen {
  const void* codes = nullptr;
  int64_t depth = 0;
  Groups groups = {};
  float* out = nullptr;
};

/// The same product of codes, Σ of a group in exact int32 arithmetic; a result that int32 does not hold is the caller's
/// mistake. The tile holds int32 sums, or in groups t = fma(float(Σ of the group), its scale, t) from t = 0, and with
/// minima after it t = fma(minimum, float(Σ of the group's codes of x), t).
struct Int8Product {
  /// Added to the sum of a group: factor · Σ of the weight's codes, [panel][group][output of the panel]. For codes of
  /// activations that are so much too small; null: none.
  struct ColumnSums {
    const int32_t* sums = nullptr;
    int32_t factor = 0;  ///< what codes lack to be less that of 0
    int64_t panel_stride = 0;
    int64_t stride = 0;  ///< from one group to the next
  };

  const void* codes = nullptr;  ///< rows as Int8Kernels::quantize wrote them
  int64_t codes_stride = 0;     ///< bytes
  /// Sums of codes as Int8Kernels::quantize wrote them: [rows][sums], `code_sums_stride` from row to row.
  const int32_t* code_sums = nullptr;
  int64_t code_sums_stride = 0;
  int64_t rows = 0, depth = 0;  ///< the last group may be shorter than the others
  const void* panels = nullptr;
  int64_t panel_stride = 0;  ///< elements, bytes or nibbles
  int64_t panel_count = 0;
  void* tile = nullptr;
  int64_t tile_stride = 0;
  Groups groups = {};
  /// With minima in groups: float(Σ codes) of each group of the rows.
  const float* group_sums = nullptr;
  int64_t group_sums_stride = 0;
  ColumnSums column_sums = {};     ///< of 8-bit weights only
  bool lowest_codes = false;       ///< some 8-bit weights are -128, which no sign can turn around
  Start start = Start::kFromZero;  ///< kFromTile: of Int8Attention's products only
};

/// How a product's tile becomes numbers again.
enum class Rescale : uint8_t {
  kNone,        ///< float tile: t + bias, or t where there is none
  kWeight,      ///< float tile: fma(t, weight scale, bias or 0)
  kBoth,        ///< int32 tile: fma(float(t), activation scale · weight scale, bias or 0)
  kActivation,  ///< float tile: fma(t, activation scale, bias or 0)
  // A whole row's minimum, whose t starts at 0 as that of groups does:
  kWeightMinimum,  ///< float tile: u + bias, u = fma(minimum, sum, fma(t, weight scale, 0)), or u where there is none
  kBothMinimum,    ///< int32 tile: fma(u, activation scale, bias or 0), u likewise of float(t)
};

/// y = nonlinearity(rescale(tile)) + residual.
struct Finish {
  const void* tile = nullptr;
  int64_t tile_stride = 0;
  int64_t rows = 0, cols = 0;
  Rescale rescale = Rescale::kNone;
  const float* weight_scales = nullptr;      ///< [cols]
  const float* activation_scales = nullptr;  ///< [rows]
  const float* weight_minima = nullptr;      ///< [cols]
  const float* sums = nullptr;               ///< [rows], what the minima meet
  const float* bias = nullptr;               ///< [cols], or [rows, cols], or null
  int64_t bias_stride = 0;                   ///< 0: every row has the same
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  const float* residual = nullptr;  ///< or null; may be y
  int64_t residual_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
};

/// Per row, over `cols` scores: s = score · scale, m = max s, p = exp(s - m) in place, inverse_sum = 1 / Σ p.
///
/// Of INT8 scores are int32 sums in the same place, score = float(sum) · (query_scales[row] · key_scales[col]), and
/// what takes its place is p · value_scales[col], the largest of a row being absmax_bits[row].
struct Softmax {
  float* scores = nullptr;
  int64_t stride = 0;  ///< rows, and the scales of keys and values, have room up to the next multiple of sixteen
  int64_t rows = 0, cols = 0;
  float scale = 1;
  float* inverse_sums = nullptr;
  const float *query_scales = nullptr, *key_scales = nullptr, *value_scales = nullptr;  ///< of INT8
  uint32_t* absmax_bits = nullptr;
};

struct LayerNorm {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  const float *gamma = nullptr, *beta = nullptr;
  float eps = 0;
  float* y = nullptr;  ///< may be x
  int64_t y_stride = 0;
};

struct RmsNorm {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  const float* gamma = nullptr;
  float eps = 0;
  float* y = nullptr;  ///< may be x
  int64_t y_stride = 0;
};

/// Turns the two columns of pair i of each head of x by position · frequencies[i].
struct Rope {
  float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, heads = 0, head_stride = 0;
  int64_t pairs = 0;  ///< half the rotary width
  RotaryLayout layout = RotaryLayout::kHalves;
  const int32_t* positions = nullptr;  ///< [rows]
  const float* frequencies = nullptr;  ///< [pairs]
  float factor = 1;
  bool backward = false;  ///< by the negative angle
};

/// y[r][c] = nonlinearity(x[r][c]) · x[r][cols + c]
struct Gated {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  float* y = nullptr;
  int64_t y_stride = 0;
};

/// Columns of rows [0, rows) combined in ascending order: Σ / divisor, or the maximum. rows > 0.
struct PoolColumns {
  enum class Kind : uint8_t { kSum, kMax };
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  Kind kind = Kind::kSum;
  float divisor = 1;
  float* y = nullptr;
};

enum class TableElement : uint8_t { kF64, kF32, kF16, kBF16 };

/// Copies rows [0, rows) of a matrix into panels of columns: [cols / width][rows][width], zeros beyond cols.
/// Or, transposed, panels of rows: [rows / width][cols][width], zeros beyond rows.
struct PackPanels {
  const float* source = nullptr;
  int64_t stride = 0;
  int64_t rows = 0, cols = 0;
  float* panels = nullptr;
};

/// What multiplies fp32 rows by weights of fewer bits.
struct FloatKernels {
  PanelFormat format;
  void (*product)(const FloatProduct&);
  void (*widen)(const Widen&);
};

/// Where codes of a row lie as they are, zeros pad them to a multiple of this.
inline constexpr int64_t kCodePadding = 8;

/// Codes of a row of x, rne(clamp(x · inverse, low, high)) + offset, however the product wants them to lie. As ends are
/// whole numbers that is what octet/quant/quantize.h defines, for uint8 codes less 128: low = -z, high = 255 - z and
/// offset = z - 128, the code of 0.
struct QuantizeRow {
  const float* x = nullptr;
  int64_t depth = 0;
  float inverse = 1;
  void* codes = nullptr;
  int64_t step = 0;         ///< k of which the product wants to know the sum of codes,
  int32_t* sums = nullptr;  ///< for each of them: that sum, in the form that the product wants
  float low = -127, high = 127;
  int32_t offset = 0;
};

/// The same of codes that exist, each a byte at its k.
struct ArrangeRow {
  const int8_t* given = nullptr;
  int64_t depth = 0;
  void* codes = nullptr;
  int64_t step = 0;
  int32_t* sums = nullptr;
  int32_t zero = 0;  ///< the code of 0
};

/// What multiplies int8 rows by quantized weights. For 8-bit weights `quantize` and `arrange` may lay codes out as they
/// like; for 4-bit ones each is a byte at its k.
struct Int8Kernels {
  PanelFormat format;
  int64_t (*row_bytes)(int64_t depth);
  int64_t sum_block = 0;  ///< k whose codes are summed; 0: those of a group, which are a multiple of it
  void (*quantize)(const QuantizeRow&);
  void (*arrange)(const ArrangeRow&);
  void (*product)(const Int8Product&);
};

/// Rows whose lines a kernel asks for while it reads one.
inline constexpr int64_t kRowsAhead = 8;

/// The largest |x| of each row, as KernelTable::absmax_bits has it.
struct AbsmaxRows {
  const float* x = nullptr;
  int64_t stride = 0;
  int64_t rows = 0, cols = 0;
  uint32_t* bits = nullptr;  ///< [rows]
};

/// Codes of rows as they are, each row by its own inverse; up to a multiple of kCodePadding follow those of zeros. A
/// row whose inverse is NaN holds what has no code, and is all zeros.
struct QuantizeRows {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  const float* inverses = nullptr;  ///< [rows]
  int8_t* codes = nullptr;
  int64_t codes_stride = 0;
  int8_t flip = 0;   ///< a byte is the code XOR this; unless 0, rows have room up to the next multiple of sixteen
  int64_t step = 0;  ///< columns whose codes Int8Product wants summed; a multiple of kCodePadding, or all
  int32_t* sums = nullptr;  ///< [rows][⌈cols / step⌉], or null
  int64_t sums_stride = 0;
  float low = -127, high = 127;
};

/// Rows of bytes, each a token's, go into the panels of a weight at the places [first, first + rows): as its outputs,
/// or as its k. Other places keep what they have. Panels are as those of KernelTable::w8a8, which products of matrices
/// make so too, but for what their bytes are XORed with.
struct PackTokens {
  const int8_t* codes = nullptr;
  int64_t stride = 0;  ///< a multiple of sixteen
  int64_t rows = 0, cols = 0;
  int64_t first = 0;
  int8_t* panels = nullptr;
  int64_t panel_stride = 0;  ///< bytes
};

/// y = (float(sum) · scale) · factor
struct ScaleSums {
  const int32_t* sums = nullptr;  ///< with room up to the next multiple of sixteen
  int64_t count = 0;
  float scale = 1, factor = 1;
  float* y = nullptr;
};

/// Attention in INT8: keys [tokens, head width] and values [head width, tokens] are the weights of its products, in
/// panels that are filled token by token, k padded to a multiple of kCodePadding. Rows of codes lie as they are.
struct Int8Attention {
  int8_t flip = 0;  ///< of the bytes of keys and values
  void (*absmax)(const AbsmaxRows&);
  void (*quantize)(const QuantizeRows&);
  void (*pack_keys)(const PackTokens&);
  void (*pack_values)(const PackTokens&);
  void (*scores)(const Int8Product&);  ///< of queries and keys
  void (*mix)(const Int8Product&);     ///< of p, whose codes are not negative, and values
  void (*scale)(const ScaleSums&);
};

/// y = nonlinearity(x); y may be x.
struct NonlinearityRows {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, cols = 0;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  float* y = nullptr;
  int64_t y_stride = 0;
};

/// dx = dy · nonlinearity'(x), dx may be dy; or of a gated unit, x and dx having 2 · cols columns.
struct NonlinearityGradientRows {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* dy = nullptr;
  int64_t dy_stride = 0;
  int64_t rows = 0, cols = 0;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  float* dx = nullptr;
  int64_t dx_stride = 0;
};

/// With x̂ as the normalization has it and g = dy · gamma: dx = (g - mean g - x̂ · mean(g x̂)) · inverse, without mean g
/// where there is no dbeta (RMS); dgamma += dy · x̂ and dbeta += dy, rows ascending.
struct NormGradientRows {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* dy = nullptr;
  int64_t dy_stride = 0;
  int64_t rows = 0, cols = 0;
  const float* gamma = nullptr;
  float eps = 0;
  float* dx = nullptr;  ///< may be dy
  int64_t dx_stride = 0;
  bool adds = false;
  float *dgamma = nullptr, *dbeta = nullptr;
};

/// See AdamwOp.
struct AdamwElements {
  float* weights = nullptr;
  const float* gradient = nullptr;
  float *m = nullptr, *v = nullptr;
  int64_t count = 0;
  float rate = 0, beta1 = 0, beta2 = 0, eps = 0, decay = 0, correction1 = 1, correction2 = 1, gradient_factor = 1;
};

/// What training asks of rows.
struct GradientKernels {
  void (*nonlinearity)(const NonlinearityRows&);
  void (*nonlinearity_gradient)(const NonlinearityGradientRows&);
  void (*gated_gradient)(const NonlinearityGradientRows&);
  void (*norm_gradient)(const NormGradientRows&);
  /// p ← p · inverse_sum; dp ← p · (dp - Σ p dp) · scale
  void (*softmax_gradient)(float* p, float* dp, int64_t count, float inverse_sum, float scale);
  /// sums[c] += Σ x[r][c], r ascending
  void (*add_rows)(const float* x, int64_t stride, int64_t rows, int64_t cols, float* sums);
  void (*adamw)(const AdamwElements&);
};

/// philox(counter + i, its high half, stream, step) of a seed, i < count: four words each, side by side.
struct RandomWords {
  uint64_t counter = 0;
  int64_t count = 0;
  uint32_t stream = 0, step = 0;
  uint64_t seed = 0;
  uint32_t* words = nullptr;
};

struct KernelTable {
  const char* name;
  int panel_width;  ///< outputs of a panel
  int tile_panels;  ///< panels that a product takes at once where there are many rows,
  int wide_panels;  ///< and where there are at most three: a multiple of this
  int row_block;    ///< rows that a task multiplies by the same panels
  int k_block;      ///< k of an fp32 panel that a task keeps in the L1 cache while it goes through its rows

  void (*product_f32)(const FloatProduct&);
  FloatKernels f16, bf16, w8a16, w4a16;
  Int8Kernels w8a8, w4a8;
  Int8Attention int8_attention;
  void (*finish)(const Finish&);

  /// Bits of the largest |x|; not finite exactly if an x is not.
  uint32_t (*absmax_bits)(const float* x, int64_t count);

  void (*pack_columns)(const PackPanels&);
  void (*pack_rows)(const PackPanels&);
  void (*softmax)(const Softmax&);
  /// y = x · scale
  void (*scale)(const float* x, int64_t count, float scale, float* y);
  void (*layer_norm)(const LayerNorm&);
  void (*rms_norm)(const RmsNorm&);
  void (*rope)(const Rope&);
  void (*gated)(const Gated&);
  void (*l2_normalize)(float* x, int64_t count);
  void (*pool)(const PoolColumns&);
  /// y = row, or y + row for Start::kFromTile
  void (*embed)(const void* row, TableElement element, int64_t count, Start start, float* y);
  void (*random_words)(const RandomWords&);
  GradientKernels gradients;
};

/// Int8Kernels::row_bytes where codes lie as they are.
int64_t plain_row_bytes(int64_t depth);

const KernelTable* ref_kernels();
#ifdef OCTET_HAS_AVX2
const KernelTable* avx2_kernels();
#endif
#ifdef OCTET_HAS_AVX512
const KernelTable* avx512_vnni_kernels();
#endif

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "octet/backend/nonlinearity.h"

/// What an instruction set provides: functions on tiles and rows, each run by one thread. Kernel files are compiled
/// with their own flags and may include nothing with inline functions (the linker keeps one copy of those for
/// everybody, and it could be one this processor cannot run), so everything here is plain data.
///
/// A weight [N, K] is laid out in panels of `panel_width` outputs: element (n, k) of fp32 and weight-only int8 lies at
///   [n / width][k][n % width],
/// of int8 weights that meet int8 activations, whose k come in groups of `interleave`, at
///   [n / width][k / interleave][n % width][k % interleave].
/// Panels are padded with zeros to whole outputs and whole groups of k.
namespace octet::cpu {

enum class Start : uint8_t { kFromZero, kFromTile };

/// tile[r][c] = Σ_k x[r][k] · w[c][k] by fma over ascending k, c over all columns of the panels.
struct FloatProduct {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, depth = 0;
  const void* panels = nullptr;  ///< float, or int8_t codes that are widened; at the first k
  int64_t panel_stride = 0;      ///< elements from one panel to the next
  int64_t panel_count = 0;
  float* tile = nullptr;
  int64_t tile_stride = 0;
  Start start = Start::kFromZero;
};

/// The same in exact int32 arithmetic; a result that int32 does not hold is the caller's mistake (see kLongestExact).
struct Int8Product {
  const void* codes = nullptr;         ///< rows as KernelTable::quantize wrote them
  int64_t codes_stride = 0;            ///< bytes
  const int32_t* code_sums = nullptr;  ///< Σ_k code of each row, `code_sums_stride` apart
  int64_t code_sums_stride = 0;
  int64_t rows = 0, depth = 0;
  const int8_t* panels = nullptr;
  int64_t panel_stride = 0;
  int64_t panel_count = 0;
  int32_t* tile = nullptr;
  int64_t tile_stride = 0;
};

/// How a product's tile becomes numbers again.
enum class Rescale : uint8_t {
  kNone,        ///< float tile: t + bias, or t where there is none
  kWeight,      ///< float tile: fma(t, weight scale, bias or 0)
  kBoth,        ///< int32 tile: fma(float(t), activation scale · weight scale, bias or 0)
  kActivation,  ///< float tile: fma(t, activation scale, bias or 0)
};

/// y = nonlinearity(rescale(tile)) + residual.
struct Finish {
  const void* tile = nullptr;
  int64_t tile_stride = 0;
  int64_t rows = 0, cols = 0;
  Rescale rescale = Rescale::kNone;
  const float* weight_scales = nullptr;      ///< [cols]
  const float* activation_scales = nullptr;  ///< [rows]
  const float* bias = nullptr;               ///< [cols], or null
  Nonlinearity nonlinearity = Nonlinearity::kNone;
  const float* residual = nullptr;  ///< or null; may be y
  int64_t residual_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
};

/// t[r][c] = fma(float(tile[r][c]), scales[c], t[r][c]): adds one chunk of a long K.
struct AddChunk {
  const int32_t* tile = nullptr;
  float* t = nullptr;
  int64_t stride = 0;  ///< of both
  int64_t rows = 0, cols = 0;
  const float* scales = nullptr;
};

/// Per row, over `cols` scores: s = score · scale, m = max s, p = exp(s - m) in place, inverse_sum = 1 / Σ p.
struct Softmax {
  float* scores = nullptr;
  int64_t stride = 0;  ///< rows have room up to the next multiple of sixteen
  int64_t rows = 0, cols = 0;
  float scale = 1;
  float* inverse_sums = nullptr;
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

/// Turns columns i and i + pairs of each head of x by position · frequencies[i].
struct Rope {
  float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0, heads = 0, head_width = 0;
  int64_t pairs = 0;                   ///< half the rotary width
  const int32_t* positions = nullptr;  ///< [rows]
  const float* frequencies = nullptr;  ///< [pairs]
  float factor = 1;
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

struct KernelTable {
  const char* name;
  int panel_width;   ///< outputs of a panel
  int interleave;    ///< neighbouring k that an int8 panel keeps together; codes of a row are padded to it
  int code_bytes;    ///< of one activation code as `quantize` writes it
  int8_t code_flip;  ///< an int8 panel that meets int8 activations holds code XOR this
  int tile_panels;   ///< panels that a product takes at once where there are many rows,
  int wide_panels;   ///< and where there are at most three
  int row_block;     ///< rows that a task multiplies by the same panels
  int k_block;       ///< k of an fp32 panel that a task keeps in the L1 cache while it goes through its rows

  void (*product_f32)(const FloatProduct&);
  void (*product_w8)(const FloatProduct&);
  void (*product_int8)(const Int8Product&);
  /// out[i] = codes[i]
  void (*widen)(const int8_t* codes, int64_t count, float* out);
  void (*finish)(const Finish&);
  void (*add_chunk)(const AddChunk&);

  /// Bits of the largest |x|; not finite exactly if an x is not.
  uint32_t (*absmax_bits)(const float* x, int64_t count);
  /// Codes of x by `inverse` (see octet/quant/quantize.h), zeros up to a whole group; returns their sum.
  int32_t (*quantize)(const float* x, int64_t count, float inverse, void* codes);

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
};

const KernelTable* ref_kernels();
#ifdef OCTET_HAS_AVX2
const KernelTable* avx2_kernels();
#endif
#ifdef OCTET_HAS_AVX512
const KernelTable* avx512_vnni_kernels();
#endif

}  // namespace octet::cpu

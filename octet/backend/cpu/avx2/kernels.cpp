// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/kernels.h"

#include "octet/backend/cpu/avx2/lanes.h"
#include "octet/backend/cpu/avx2/products.h"
#include "octet/backend/cpu/avx2/transpose.h"
#include "octet/backend/cpu/vector_rows.h"

namespace octet::cpu {
namespace {

constexpr KernelTable kTable = {
    .name = "avx2",
    .panel_width = 16,
    .interleave = 2,
    .code_bytes = 2,
    .code_flip = 0,
    .tile_panels = 1,
    .wide_panels = 4,
    .row_block = 48,
    // 384 · 16 fp32 of a panel are 24 KB, with six rows of x 33 KB: L1 caches have 32 or 48 KB.
    .k_block = 384,
    .product_f32 = avx2::product_f32,
    .product_w8 = avx2::product_w8,
    .product_int8 = avx2::product_int8,
    .widen = avx2::widen,
    .finish = finish_tile<Sixteen>,
    .add_chunk = add_chunk_to_tile<Sixteen>,
    .absmax_bits = avx2::absmax_bits,
    .quantize = avx2::quantize,
    .pack_columns = pack_column_panels<Sixteen>,
    .pack_rows = pack_row_panels,
    .softmax = softmax_rows<Sixteen>,
    .scale = scale_row<Sixteen>,
    .layer_norm = layer_norm_rows<Sixteen>,
    .rms_norm = rms_norm_rows<Sixteen>,
    .rope = rope_rows<Sixteen>,
    .gated = gated_rows<Sixteen>,
    .l2_normalize = l2_normalize_row<Sixteen>,
    .pool = pool_columns<Sixteen>,
    .embed = embed_row<Sixteen>,
};

}  // namespace

const KernelTable* avx2_kernels() { return &kTable; }

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/kernels.h"

#include "octet/backend/cpu/avx2/pack_tokens.h"
#include "octet/backend/cpu/avx2/random_words.h"
#include "octet/backend/cpu/avx2/transpose.h"
#include "octet/backend/cpu/avx512/lanes.h"
#include "octet/backend/cpu/avx512/products.h"
#include "octet/backend/cpu/vector_gradients.h"
#include "octet/backend/cpu/vector_rows.h"

namespace octet::cpu {
namespace {

constexpr KernelTable kTable = {
    .name = "avx512_vnni",
    .panel_width = 16,
    .tile_panels = 2,
    .wide_panels = 8,
    // Four tiles of fourteen rows.
    .row_block = 56,
    // Two panels of 384 · 16 fp32 are 48 KB and come from the L2 cache: 128 bytes in the 14 cycles of a step of k.
    .k_block = 384,
    .product_f32 = avx512::product_f32,
    .f16 = {.format = {.bits = 16}, .product = avx512::product_f16, .widen = avx512::widen_f16},
    .bf16 = {.format = {.bits = 16}, .product = avx512::product_bf16, .widen = avx512::widen_bf16},
    .w8a16 = {.format = {.bits = 8}, .product = avx512::product_w8a16, .widen = avx512::widen_w8},
    // Eight k of an output in a lane of 32 bits.
    .w4a16 = {.format = {.bits = 4, .interleave = 8, .nibble_block = 2},
              .product = avx512::product_w4a16,
              .widen = avx512::widen_w4},
    // Codes are stored + 128.
    .w8a8 = {.format = {.bits = 8, .interleave = 4, .flip = -128},
             .row_bytes = plain_row_bytes,
             .quantize = avx512::quantize,
             .arrange = avx512::arrange,
             .product = avx512::product_w8a8},
    // A register has four k of all outputs in its low nibbles, the next four in the high ones.
    .w4a8 = {.format = {.bits = 4, .interleave = 4, .nibble_block = 128},
             .row_bytes = plain_row_bytes,
             .quantize = avx512::quantize,
             .arrange = avx512::arrange,
             .product = avx512::product_w4a8},
    // Keys and values too are stored + 128.
    .int8_attention = {.flip = -128,
                       .absmax = avx512::absmax_rows,
                       .quantize = avx512::quantize_rows,
                       .pack_keys = pack_key_tokens,
                       .pack_values = pack_value_tokens,
                       .scores = avx512::product_w8a8,
                       .mix = avx512::product_w8a8,
                       .scale = scale_sums<Sixteen>},
    .finish = finish_tile<Sixteen>,
    .absmax_bits = avx512::absmax_bits,
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
    .random_words = random_words,
    .gradients = gradient_kernels<Sixteen>(),
};

}  // namespace

const KernelTable* avx512_vnni_kernels() { return &kTable; }

}  // namespace octet::cpu

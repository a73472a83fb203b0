// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/kernels.h"

#include "octet/backend/cpu/avx2/lanes.h"
#include "octet/backend/cpu/avx2/pack_tokens.h"
#include "octet/backend/cpu/avx2/products.h"
#include "octet/backend/cpu/avx2/random_words.h"
#include "octet/backend/cpu/avx2/transpose.h"
#include "octet/backend/cpu/vector_gradients.h"
#include "octet/backend/cpu/vector_rows.h"

namespace octet::cpu {
namespace {

constexpr KernelTable kTable = {
    .name = "avx2",
    .panel_width = 16,
    .tile_panels = 1,
    .wide_panels = 4,
    .row_block = 48,
    // 256 · 16 fp32 of a panel are 16 KB, with six rows of x 22 KB: L1 caches have 32 or 48 KB.
    .k_block = 256,
    .product_f32 = avx2::product_f32,
    .f16 = {.format = {.bits = 16}, .product = avx2::product_f16, .widen = avx2::widen_f16},
    // Two k of an output in a lane of 32 bits.
    .bf16 = {.format = {.bits = 16, .interleave = 2}, .product = avx2::product_bf16, .widen = avx2::widen_bf16},
    .w8a16 = {.format = {.bits = 8}, .product = avx2::product_w8a16, .widen = avx2::widen_w8},
    // Eight k of an output in a lane of 32 bits.
    .w4a16 = {.format = {.bits = 4, .interleave = 8, .nibble_block = 2},
              .product = avx2::product_w4a16,
              .widen = avx2::widen_w4},
    .w8a8 = {.format = {.bits = 8, .interleave = 4, .flip = -128},
             .row_bytes = avx2::byte_row_bytes,
             .quantize = avx2::quantize_for_bytes,
             .arrange = avx2::arrange_for_bytes,
             .product = avx2::product_w8a8},
    // A register has four k of all outputs, those of outputs 0-7 in its low nibbles.
    .w4a8 = {.format = {.bits = 4, .interleave = 4, .nibble_block = 64},
             .row_bytes = plain_row_bytes,
             .sum_block = avx2::kNibbleSums,
             .quantize = avx2::quantize_for_nibbles,
             .arrange = avx2::arrange_for_nibbles,
             .product = avx2::product_w4a8},
    .int8_attention = {.absmax = avx2::absmax_rows,
                       .quantize = avx2::quantize_rows,
                       .pack_keys = pack_key_tokens,
                       .pack_values = pack_value_tokens,
                       .scores = avx2::product_scores,
                       .mix = avx2::product_mix,
                       .scale = scale_sums<Sixteen>},
    .finish = finish_tile<Sixteen>,
    .absmax_bits = avx2::absmax_bits,
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

const KernelTable* avx2_kernels() { return &kTable; }

}  // namespace octet::cpu

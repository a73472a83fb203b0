// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "octet/backend/cpu/code_writer.h"
#include "octet/backend/cpu/dropout_mask.h"
#include "octet/backend/cpu/kv_blocks.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/quant/quantize.h"

// A task takes one head of keys and values of one sequence, and a part of the queries that read it: rows of the heads
// of its group, token by token. It goes through them in strips whose scores stay in the L2 cache. Keys and values are
// panels: those of a cache lie so already, else the task lays its own out once. What is multiplied, floats or codes, is
// the matter of FloatProducts and Int8Products.
namespace octet::cpu {
namespace {

// Scores of a strip: 65,536 fp32 are 256 KB. At least six rows, which is what a tile of the product has.
constexpr int64_t kStripScores = 65'536;
constexpr int64_t kFewestRows = 6, kMostRows = 48;
// softmax works in blocks of sixteen from a row's first kept key on.
constexpr int64_t kSoftmaxBlock = 16;

struct KeyRange {
  int64_t first, last;  // keys [first, last)
};

// Keys of `range` that lie together, in panels with room for `capacity` tokens from `first` on: a block of the cache,
// or, without one, all there are.
struct Block {
  int64_t index, first, capacity;
  KeyRange range;
};

// The sizes of an operation, and what its tasks are.
struct Frame {
  const KernelTable& table;
  const AttentionOp& op;
  std::optional<KvReader> cache;
  int64_t longest = 0, most_keys = 0, group = 1, value_panels = 0, score_stride = 0, strip = 0;
  int threads = 1;
  int64_t part = 0, parts = 0;  // queries of a task, and tasks that share a group

  Frame(const KernelTable& kernels, int available, const AttentionOp& operation) : table(kernels), op(operation) {
    check();
    if (op.cache) cache.emplace(table, op);
    for (int64_t b = 0; b < op.sequences; ++b) most_keys = std::max(most_keys, past(b) + length(b));
    group = op.heads / op.kv_heads;
    const int64_t panel = table.panel_width;
    value_panels = (op.head_width + panel - 1) / panel;
    // Room for whole panels of scores, and for softmax's last block, which may begin at any key.
    score_stride = round_up(most_keys, std::max(panel, kSoftmaxBlock)) + kSoftmaxBlock;
    strip = std::clamp(kStripScores / score_stride, kFewestRows, kMostRows);

    // Whole groups if they keep all threads busy, else parts of whole strips.
    threads = threads_for(checked_mul(2 * op.heads * op.head_width, checked_mul(op.q.rows, most_keys)), available);
    const int64_t groups = op.sequences * op.kv_heads, queries = longest * group;
    const int64_t wanted = threads == 1 || groups == 0 ? 1 : (4 * threads + groups - 1) / groups;
    part = (queries + wanted - 1) / wanted;
    if (part > strip) part = round_up(part, strip);
    parts = part == 0 ? 0 : (queries + part - 1) / part;
  }

  int64_t first_row(int64_t sequence) const { return int32s(op.offsets)[sequence]; }
  int64_t length(int64_t sequence) const { return first_row(sequence + 1) - first_row(sequence); }
  int64_t past(int64_t sequence) const { return cache ? cache->past(sequence) : 0; }
  int64_t value_width() const { return value_panels * table.panel_width; }

 private:
  void check() {
    const int64_t rows = op.q.rows, width = op.head_width;
    if (op.heads < 1 || width < 1 || op.kv_heads < 1 || op.heads % op.kv_heads != 0 || op.head_stride < width) {
      fail<ShapeError>("attention: {} heads of width {}, {} of keys and values, with {} from one to the next", op.heads,
                       width, op.kv_heads, op.head_stride);
    }
    const auto columns_of = [&](int64_t heads) { return checked_add(checked_mul(heads - 1, op.head_stride), width); };
    check_shape(op.q, rows, columns_of(op.heads), "attention: q");
    check_shape(op.k, rows, columns_of(op.kv_heads), "attention: k");
    check_shape(op.v, rows, columns_of(op.kv_heads), "attention: v");
    check_floats_or_codes(op.y, rows, checked_mul(op.heads, width), "attention: y");
    if (!op.causal && (op.cache || op.window != 0)) {
      fail<ShapeError>("attention: a cache or a window, but not causal");
    }
    longest = check_offsets(op.offsets, op.sequences, rows);
  }
};

// One head of keys and values of one sequence, and the queries that read it.
struct Head {
  const Frame& frame;
  int64_t sequence, head;

  // Keys that a query reads.
  KeyRange keys_of(int64_t query) const {
    const AttentionOp& op = frame.op;
    if (!op.causal) return {0, frame.length(sequence)};
    const int64_t last = frame.past(sequence) + query / frame.group + 1;
    return {op.window == 0 ? 0 : std::max<int64_t>(0, last - op.window), last};
  }
  // Of the operation's rows the one that a query, or a row of the sequence, lies in.
  int64_t row_of(int64_t query) const { return frame.first_row(sequence) + query / frame.group; }
  // Which of the operation's heads it is of.
  int64_t head_of(int64_t query) const { return head * frame.group + query % frame.group; }
  const float* of_query(const Activation& x, int64_t query) const {
    return data(x) + row_of(query) * x.stride + head_of(query) * frame.op.head_stride;
  }
  const float* of_token(const Activation& x, int64_t row) const {
    return data(x) + (frame.first_row(sequence) + row) * x.stride + head * frame.op.head_stride;
  }
};

// fp32 by fp32. `memory` is a worker's.
class FloatProducts {
 public:
  FloatProducts(const Frame& frame, Layout& layout)
      : frame_(frame),
        keys_(layout.add<float>(own_keys())),
        values_(layout.add<float>(own_values())),
        queries_(layout.add<float>(frame.strip * frame.op.head_width)),
        output_(layout.add<float>(frame.strip * frame.value_width())),
        inverse_sums_(layout.add<float>(frame.strip)) {}

  // Adds the new keys and values to the cache.
  void append(const Head& head, std::byte*) const { frame_.cache->append(frame_.op, head.sequence, head.head); }

  // Makes those that are read ready: without a cache, panels of the first ones.
  void lay_out(const Head& head, KeyRange range, std::byte* memory) const {
    const AttentionOp& op = frame_.op;
    if (frame_.cache) return;
    frame_.table.pack_rows({head.of_token(op.k, 0), op.k.stride, range.last, op.head_width, keys_.in(memory)});
    frame_.table.pack_columns({head.of_token(op.v, 0), op.v.stride, range.last, op.head_width, values_.in(memory)});
  }

  void take_queries(const Head& head, int64_t first, int64_t count, std::byte* memory) const {
    const int64_t width = frame_.op.head_width;
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(head.of_query(frame_.op.q, first + i), width, queries_.in(memory) + i * width);
    }
  }

  // Scores of `count` queries and the panels [first, last) of a block, into a tile.
  void score(const Head& head, const Block& block, KeyRange panels, int64_t count, float* tile,
             std::byte* memory) const {
    const int64_t width = frame_.op.head_width, panel = frame_.table.panel_width;
    FloatProduct product;
    product.x = queries_.in(memory);
    product.x_stride = width;
    product.rows = count;
    product.depth = width;
    product.panels = keys(head, block, memory) + panels.first * panel * width;
    product.panel_stride = panel * width;
    product.panel_count = panels.last - panels.first;
    product.tile = tile;
    product.tile_stride = frame_.score_stride;
    frame_.table.product_f32(product);
  }

  // Row i of the strip, whose scores of `kept` keys begin at `scores`.
  void softmax(int64_t i, float* scores, KeyRange kept, std::byte* memory) const {
    frame_.table.softmax({.scores = scores,
                          .stride = frame_.score_stride,
                          .rows = 1,
                          .cols = kept.last - kept.first,
                          .scale = frame_.op.scale,
                          .inverse_sums = inverse_sums_.in(memory) + i});
  }

  // The products with values go through the keys `mixed`, from begin_of(the first that is read); take_weights is shown
  // each row of the strip when a query's p stand there.
  int64_t begin_of(int64_t key) const { return key; }
  void take_weights(const Head&, int64_t, int64_t, const float*, KeyRange, std::byte*) {}

  void mix(const Head& head, const Block& block, const float* scores, KeyRange, int64_t count, Start start,
           std::byte* memory) const {
    const int64_t panel = frame_.table.panel_width;
    FloatProduct product;
    product.x = scores + block.range.first;
    product.x_stride = frame_.score_stride;
    product.rows = count;
    product.depth = block.range.last - block.range.first;
    product.panels = values(head, block, memory) + (block.range.first - block.first) * panel;
    product.panel_stride = panel * block.capacity;
    product.panel_count = frame_.value_panels;
    product.tile = output_.in(memory);
    product.tile_stride = frame_.value_width();
    product.start = start;
    frame_.table.product_f32(product);
  }

  void write(int64_t i, float* y, std::byte* memory) const {
    frame_.table.scale(output_.in(memory) + i * frame_.value_width(), frame_.op.head_width, inverse_sums_.in(memory)[i],
                       y);
  }

  // Multiplies what row i of the strip gives.
  void stretch(int64_t i, float factor, std::byte* memory) const { inverse_sums_.in(memory)[i] *= factor; }

  std::optional<int64_t> fault() const { return std::nullopt; }

 private:
  // Room for the panels of a block of the cache that has to be widened, or of a whole sequence.
  int64_t own_keys() const {
    if (frame_.cache) return frame_.cache->widens() ? frame_.cache->key_elements() : 0;
    return round_up(frame_.most_keys, frame_.table.panel_width) * frame_.op.head_width;
  }
  int64_t own_values() const {
    if (frame_.cache) return frame_.cache->widens() ? frame_.cache->value_elements() : 0;
    return frame_.most_keys * frame_.value_width();
  }
  const float* keys(const Head& head, const Block& block, std::byte* memory) const {
    float* buffer = keys_.in(memory);
    return frame_.cache ? frame_.cache->keys(head.sequence, head.head, block.index, buffer) : buffer;
  }
  const float* values(const Head& head, const Block& block, std::byte* memory) const {
    float* buffer = values_.in(memory);
    return frame_.cache ? frame_.cache->values(head.sequence, head.head, block.index, buffer) : buffer;
  }

  const Frame& frame_;
  Layout::Part<float> keys_, values_, queries_, output_, inverse_sums_;
};

// Codes by codes, see FloatProducts. Each row of a head has a scale: of q, k and v, be it that of all rows, and of p
// times the values' scales, which are multiplied into it because they lie along the sum over keys.
class Int8Products {
 public:
  Int8Products(const Frame& frame, Layout& layout)
      : frame_(frame),
        kernels_(frame.table.int8_attention),
        width_(frame.op.head_width),
        key_depth_(round_up(width_, kCodePadding)),
        staged_stride_(round_up(width_, 16)),
        capacity_(round_up(frame.most_keys, kKvBlockTokens)),
        sum_count_(frame.cache ? capacity_ / kKvBlockTokens : 1),
        keys_(layout.add<int8_t>(frame.cache ? 0 : capacity_ * key_depth_)),
        values_(layout.add<int8_t>(frame.cache ? 0 : capacity_ * frame.value_width())),
        staged_(layout.add<int8_t>(kKvBlockTokens * staged_stride_)),
        query_codes_(layout.add<int8_t>(frame.strip * key_depth_)),
        weight_codes_(layout.add<int8_t>(frame.strip * weight_stride())),
        key_scales_(layout.add<float>(capacity_ + kSoftmaxBlock)),
        value_scales_(layout.add<float>(capacity_ + kSoftmaxBlock)),
        queries_(layout.add<float>(frame.strip * width_)),
        query_scales_(layout.add<float>(frame.strip)),
        weight_scales_(layout.add<float>(frame.strip)),
        inverse_sums_(layout.add<float>(frame.strip)),
        inverses_(layout.add<float>(kMostAtOnce)),
        absmax_(layout.add<uint32_t>(kMostAtOnce)),
        query_sums_(layout.add<int32_t>(frame.strip)),
        weight_sums_(layout.add<int32_t>(frame.strip * sum_count_)),
        output_(layout.add<int32_t>(frame.strip * frame.value_width())) {
    if (frame.most_keys > kLongestExact || width_ > kLongestExact) {
      fail<ShapeError>("attention: {} keys of width {}; in INT8 both can be {} at most", frame.most_keys, width_,
                       kLongestExact);
    }
  }

  void append(const Head& head, std::byte* memory) {
    const int64_t past = frame_.past(head.sequence), rows = frame_.length(head.sequence);
    for (int64_t row = 0; row < rows;) {
      const int64_t block = (past + row) / kKvBlockTokens, place = (past + row) % kKvBlockTokens;
      const int64_t count = std::min(kKvBlockTokens - place, rows - row);
      put(head, row, count, place, frame_.cache->codes(head.sequence, head.head, block), memory);
      row += count;
    }
  }

  // With a cache, its scales side by side.
  void lay_out(const Head& head, KeyRange range, std::byte* memory) {
    if (!frame_.cache) {
      const CodePanels own = panels(head, 0, memory);
      for (int64_t row = 0; row < range.last; row += kKvBlockTokens) {
        put(head, row, std::min(kKvBlockTokens, range.last - row), row, own, memory);
      }
      return;
    }
    for (int64_t block = range.first / kKvBlockTokens; block * kKvBlockTokens < range.last; ++block) {
      const CodePanels cached = panels(head, block, memory);
      std::copy_n(cached.key_scales, kKvBlockTokens, key_scales_.in(memory) + block * kKvBlockTokens);
      std::copy_n(cached.value_scales, kKvBlockTokens, value_scales_.in(memory) + block * kKvBlockTokens);
    }
  }

  void take_queries(const Head& head, int64_t first, int64_t count, std::byte* memory) {
    float* const queries = queries_.in(memory);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(head.of_query(frame_.op.q, first + i), width_, queries + i * width_);
    }
    float* const scales = query_scales_.in(memory);
    find_scales({queries, width_, count, width_}, fixed(frame_.op.scales.q), scales, memory);
    quantize({.x = queries,
              .x_stride = width_,
              .rows = count,
              .cols = width_,
              .codes = query_codes_.in(memory),
              .codes_stride = key_depth_,
              .step = width_,
              .sums = query_sums_.in(memory),
              .sums_stride = 1,
              .low = static_cast<float>(-last_code(frame_.op.scales.bits.qk)),
              .high = static_cast<float>(last_code(frame_.op.scales.bits.qk))},
             memory);
    for (int64_t i = 0; i < count; ++i) {
      if (std::isnan(scales[i])) input_fault_.add(head.row_of(first + i));
    }
  }

  void score(const Head& head, const Block& block, KeyRange panels_of, int64_t count, float* tile,
             std::byte* memory) const {
    const int64_t panel_bytes = frame_.table.panel_width * key_depth_;
    Int8Product product;
    product.codes = query_codes_.in(memory);
    product.codes_stride = key_depth_;
    product.code_sums = query_sums_.in(memory);
    product.code_sums_stride = 1;
    product.rows = count;
    product.depth = width_;
    product.panels = panels(head, block.index, memory).keys + panels_of.first * panel_bytes;
    product.panel_stride = panel_bytes;
    product.panel_count = panels_of.last - panels_of.first;
    product.tile = tile;
    product.tile_stride = frame_.score_stride;
    kernels_.scores(product);
  }

  void softmax(int64_t i, float* scores, KeyRange kept, std::byte* memory) const {
    frame_.table.softmax({.scores = scores,
                          .stride = frame_.score_stride,
                          .rows = 1,
                          .cols = kept.last - kept.first,
                          .scale = frame_.op.scale,
                          .inverse_sums = inverse_sums_.in(memory) + i,
                          .query_scales = query_scales_.in(memory) + i,
                          .key_scales = key_scales_.in(memory) + kept.first,
                          .value_scales = value_scales_.in(memory) + kept.first,
                          .absmax_bits = absmax_.in(memory)});
  }

  // Whole blocks of the cache, whose codes have a sum each, or of what a panel has together.
  int64_t begin_of(int64_t key) const {
    const int64_t step = frame_.cache ? kKvBlockTokens : kCodePadding;
    return key / step * step;
  }

  void take_weights(const Head& head, int64_t i, int64_t query, const float* row, KeyRange mixed, std::byte* memory) {
    float* const scale = weight_scales_.in(memory) + i;
    find_scales(1, std::nullopt, scale, memory);  // of what softmax left
    quantize({.x = row + mixed.first,
              .x_stride = frame_.score_stride,
              .rows = 1,
              .cols = mixed.last - mixed.first,
              .codes = weight_codes_.in(memory) + i * weight_stride(),
              .codes_stride = weight_stride(),
              .step = frame_.cache ? kKvBlockTokens : capacity_,
              .sums = weight_sums_.in(memory) + i * sum_count_,
              .sums_stride = sum_count_},
             memory);
    if (std::isnan(*scale)) weight_fault_.add(head.row_of(query));
  }

  void mix(const Head& head, const Block& block, const float*, KeyRange mixed, int64_t count, Start start,
           std::byte* memory) const {
    const int64_t panel = frame_.table.panel_width, key = block.range.first;
    const CodePanels of_block = panels(head, block.index, memory);
    Int8Product product;
    product.codes = weight_codes_.in(memory) + key - mixed.first;
    product.codes_stride = weight_stride();
    product.code_sums = weight_sums_.in(memory) + (key - mixed.first) / kKvBlockTokens;
    product.code_sums_stride = sum_count_;
    product.rows = count;
    product.depth = block.range.last - key;
    product.panels = of_block.values + (key - block.first) * panel;
    product.panel_stride = panel * of_block.capacity;
    product.panel_count = frame_.value_panels;
    product.tile = output_.in(memory);
    product.tile_stride = frame_.value_width();
    product.start = start;
    kernels_.mix(product);
  }

  void write(int64_t i, float* y, std::byte* memory) const {
    kernels_.scale({.sums = output_.in(memory) + i * frame_.value_width(),
                    .count = width_,
                    .scale = weight_scales_.in(memory)[i],
                    .factor = inverse_sums_.in(memory)[i],
                    .y = y});
  }

  // Where q, k and v are finite, products of scales may still overflow.
  void stretch(int64_t i, float factor, std::byte* memory) const { inverse_sums_.in(memory)[i] *= factor; }

  std::optional<int64_t> fault() const { return input_fault_.get() ? input_fault_.get() : weight_fault_.get(); }

 private:
  static constexpr int64_t kMostAtOnce = std::max(kMostRows, kKvBlockTokens);

  // Rows apart by more than whole blocks, which powers of two would put into the same lines of the L1 cache.
  int64_t weight_stride() const { return capacity_ + kKvBlockTokens; }

  CodePanels panels(const Head& head, int64_t block, std::byte* memory) const {
    if (frame_.cache) return frame_.cache->codes(head.sequence, head.head, block);
    return {.keys = keys_.in(memory),
            .values = values_.in(memory),
            .key_scales = key_scales_.in(memory),
            .value_scales = value_scales_.in(memory),
            .capacity = capacity_};
  }

  // The scale of all rows, in a static mode.
  std::optional<float> fixed(float scale) const {
    return is_static(frame_.op.activations) ? std::optional(scale) : std::nullopt;
  }

  // Scales of rows, the fixed one or by their absmax_, and their inverses. A row that holds NaN or infinity gets zero
  // codes under a NaN scale, so that all it meets becomes NaN.
  void find_scales(int64_t rows, std::optional<float> fixed, float* scales, std::byte* memory) const {
    const uint32_t* const absmax = absmax_.in(memory);
    float* const inverses = inverses_.in(memory);
    for (int64_t r = 0; r < rows; ++r) {
      const float largest = std::bit_cast<float>(absmax[r]);
      scales[r] = !std::isfinite(largest) ? std::numeric_limits<float>::quiet_NaN()
                  : fixed                 ? *fixed
                                          : int8_scale(largest);
      inverses[r] = 1.0f / scales[r];
    }
  }
  void find_scales(AbsmaxRows rows, std::optional<float> fixed, float* scales, std::byte* memory) const {
    rows.bits = absmax_.in(memory);
    kernels_.absmax(rows);
    find_scales(rows.rows, fixed, scales, memory);
  }

  // By the scales found last.
  void quantize(QuantizeRows q, std::byte* memory) const {
    q.inverses = inverses_.in(memory);
    kernels_.quantize(q);
  }

  // Keys and values of at most kKvBlockTokens rows of the sequence, as tokens [place, place + count) of `to`.
  void put(const Head& head, int64_t row, int64_t count, int64_t place, const CodePanels& to, std::byte* memory) {
    const int64_t panel = frame_.table.panel_width;
    const AttentionScales& scales = frame_.op.scales;
    put(frame_.op.k, head, row, count, place, fixed(scales.k), scales.bits.qk, to.key_scales, kernels_.pack_keys,
        to.keys, panel * key_depth_, memory);
    put(frame_.op.v, head, row, count, place, fixed(scales.v), scales.bits.v, to.value_scales, kernels_.pack_values,
        to.values, panel * to.capacity, memory);
  }
  void put(const Activation& x, const Head& head, int64_t row, int64_t count, int64_t place,
           std::optional<float> fixed_scale, int bits, float* scales, void (*pack)(const PackTokens&), int8_t* to,
           int64_t panel_stride, std::byte* memory) {
    const float* const source = head.of_token(x, row);
    find_scales({source, x.stride, count, width_}, fixed_scale, scales + place, memory);
    quantize({.x = source,
              .x_stride = x.stride,
              .rows = count,
              .cols = width_,
              .codes = staged_.in(memory),
              .codes_stride = staged_stride_,
              .flip = kernels_.flip,
              .step = width_,
              .low = static_cast<float>(-last_code(bits)),
              .high = static_cast<float>(last_code(bits))},
             memory);
    for (int64_t i = 0; i < count; ++i) {
      if (std::isnan(scales[place + i])) input_fault_.add(frame_.first_row(head.sequence) + row + i);
    }
    pack({staged_.in(memory), staged_stride_, count, width_, place, to, panel_stride});
  }

  const Frame& frame_;
  const Int8Attention& kernels_;
  int64_t width_, key_depth_, staged_stride_;
  int64_t capacity_;   // tokens of the longest sequence, in whole blocks
  int64_t sum_count_;  // of a row of weights
  Layout::Part<int8_t> keys_, values_, staged_, query_codes_, weight_codes_;
  Layout::Part<float> key_scales_, value_scales_, queries_, query_scales_, weight_scales_, inverse_sums_, inverses_;
  Layout::Part<uint32_t> absmax_;
  Layout::Part<int32_t> query_sums_, weight_sums_, output_;
  LowestRow input_fault_, weight_fault_;
};

template <class Products>
class Attention {
 public:
  Attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op)
      : workspace_(workspace),
        dropout_(table, op.dropout, "attention"),
        frame_(table, workspace.threads(), op),
        products_(frame_, layout_),
        scores_(layout_.add<float>(frame_.strip * frame_.score_stride)),
        writer_(table, op.y, 1, op.head_width, layout_) {}

  Faults run() {
    if (frame_.longest == 0) return {};
    workspace_.reserve({}, layout_);
    const int64_t kv_heads = frame_.op.kv_heads, groups = frame_.op.sequences * kv_heads;
    if (frame_.cache) {
      parallel_for(frame_.threads, groups, [&](int64_t index, int worker) {
        products_.append({frame_, index / kv_heads, index % kv_heads}, workspace_.worker(worker));
      });
    }
    parallel_for(frame_.threads, groups * frame_.parts, [&](int64_t index, int worker) {
      const Head head{frame_, index / (kv_heads * frame_.parts), index / frame_.parts % kv_heads};
      const int64_t begin = index % frame_.parts * frame_.part;
      const int64_t end = std::min(begin + frame_.part, frame_.length(head.sequence) * frame_.group);
      if (begin < end) task(head, begin, end, workspace_.worker(worker));
    });
    return {.input = products_.fault(), .output = writer_.fault()};
  }

 private:
  void task(const Head& head, int64_t begin, int64_t end, std::byte* memory) {
    const KeyRange read{head.keys_of(begin).first, head.keys_of(end - 1).last};
    products_.lay_out(head, read, memory);
    for (int64_t query = begin; query < end; query += frame_.strip) {
      strip(head, query, std::min(frame_.strip, end - query), read.last, memory);
    }
  }

  // Calls visit(block) for the blocks of tokens that hold keys of `range`.
  template <class Visit>
  void for_blocks(KeyRange range, int64_t laid_out, Visit visit) const {
    const int64_t capacity = frame_.cache ? kKvBlockTokens : laid_out;
    for (int64_t index = range.first / capacity; index * capacity < range.last; ++index) {
      const int64_t first = index * capacity;
      visit(Block{index, first, capacity, {std::max(range.first, first), std::min(range.last, first + capacity)}});
    }
  }

  void strip(const Head& head, int64_t first_query, int64_t count, int64_t laid_out, std::byte* memory) {
    const int64_t panel = frame_.table.panel_width, stride = frame_.score_stride;
    float* const scores = scores_.in(memory);
    products_.take_queries(head, first_query, count, memory);
    const KeyRange keys{head.keys_of(first_query).first, head.keys_of(first_query + count - 1).last};

    for_blocks(keys, laid_out, [&](const Block& block) {
      const KeyRange panels{(block.range.first - block.first) / panel,
                            (block.range.last - block.first + panel - 1) / panel};
      products_.score(head, block, panels, count, scores + block.first + panels.first * panel, memory);
    });

    const KeyRange mixed{products_.begin_of(keys.first), keys.last};
    for (int64_t i = 0; i < count; ++i) {
      const KeyRange kept = head.keys_of(first_query + i);
      float* const row = scores + i * stride;
      products_.softmax(i, row + kept.first, kept, memory);
      if (dropout_.drops()) drop(head, first_query + i, i, kept, row, memory);
      // Keys that other rows of the strip read: fma(0, v, o) is o.
      std::fill(row + mixed.first, row + kept.first, 0.0f);
      std::fill(row + kept.last, row + mixed.last, 0.0f);
      products_.take_weights(head, i, first_query + i, row, mixed, memory);
    }

    Start start = Start::kFromZero;
    for_blocks(mixed, laid_out, [&](const Block& block) {
      products_.mix(head, block, scores, mixed, count, start, memory);
      start = Start::kFromTile;
    });
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = head.row_of(first_query + i), col = head.head_of(first_query + i) * frame_.op.head_width;
      products_.write(i, writer_.floats(row, col, memory).data, memory);
      writer_.write(row, 1, col, frame_.op.head_width, memory);
    }
  }

  // Row i of the strip loses weights; what is left is stretched at the end, so that codes of weights have their range.
  void drop(const Head& head, int64_t query, int64_t i, KeyRange kept, float* row, std::byte* memory) const {
    dropout_.apply_to_weights({head.row_of(query), head.head_of(query), frame_.op.heads}, kept.first,
                              kept.last - kept.first, 1.0f, row + kept.first);
    products_.stretch(i, dropout_.factor(), memory);
  }

  Workspace& workspace_;
  DropoutMask dropout_;
  Layout layout_;  // of what a task works in
  Frame frame_;
  Products products_;
  Layout::Part<float> scores_;
  CodeWriter writer_;
};

}  // namespace

Faults attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op) {
  const bool int8 = op.activations != ActivationMode::kFloat;
  if (op.activations == ActivationMode::kStaticPerTensorZeroPoint) fail("attention has no zero points");
  if (op.cache && (op.cache->dtype == DType::kI8) != int8) {
    fail("attention in {} cannot read a cache of {}", int8 ? "INT8" : "float", name(op.cache->dtype));
  }
  if (op.cache && op.dropout.probability > 0) fail("attention drops weights in training, without a cache");
  if (int8) return Attention<Int8Products>(table, workspace, op).run();
  return Attention<FloatProducts>(table, workspace, op).run();
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "octet/backend/cpu/kv_blocks.h"
#include "octet/backend/cpu/operations.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

// A task takes one head of keys and values of one sequence, and a part of the queries that read it: rows of the heads
// of its group, token by token. It goes through them in strips whose scores stay in the L2 cache. Keys and values are
// panels: those of a cache lie so already, else the task lays its own out once.
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

class Attention {
 public:
  Attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op)
      : table_(table), workspace_(workspace), op_(op) {
    check();
    if (op.cache) cache_.emplace(table, op);
    for (int64_t b = 0; b < op.sequences; ++b) most_keys_ = std::max(most_keys_, past(b) + length(b));
    group_ = op.heads / op.kv_heads;
    const int64_t panel = table.panel_width;
    value_panels_ = (op.head_width + panel - 1) / panel;
    // Room for whole panels of scores, and for softmax's last block, which may begin at any key.
    score_stride_ = round_up(most_keys_, std::max(panel, kSoftmaxBlock)) + kSoftmaxBlock;
    strip_ = std::clamp(kStripScores / score_stride_, kFewestRows, kMostRows);

    // Whole groups if they keep all threads busy, else parts of whole strips.
    threads_ =
        threads_for(checked_mul(2 * op.heads * op.head_width, checked_mul(op.q.rows, most_keys_)), workspace.threads());
    const int64_t groups = op.sequences * op.kv_heads, queries = longest_ * group_;
    const int64_t wanted = threads_ == 1 ? 1 : (4 * threads_ + groups - 1) / groups;
    part_ = (queries + wanted - 1) / wanted;
    if (part_ > strip_) part_ = round_up(part_, strip_);
    parts_ = part_ == 0 ? 0 : (queries + part_ - 1) / part_;

    keys_ = layout_.add<float>(own_keys());
    values_ = layout_.add<float>(own_values());
    queries_ = layout_.add<float>(strip_ * op.head_width);
    scores_ = layout_.add<float>(strip_ * score_stride_);
    output_ = layout_.add<float>(strip_ * value_panels_ * panel);
    inverse_sums_ = layout_.add<float>(strip_);
  }

  void run() {
    if (longest_ == 0) return;
    if (cache_) {
      parallel_for(threads_, op_.sequences * op_.kv_heads,
                   [&](int64_t index, int) { cache_->append(op_, index / op_.kv_heads, index % op_.kv_heads); });
    }
    workspace_.reserve({}, layout_);
    const int64_t tasks = op_.sequences * op_.kv_heads * parts_;
    parallel_for(threads_, tasks, [&](int64_t index, int worker) {
      const int64_t sequence = index / (op_.kv_heads * parts_), begin = index % parts_ * part_;
      const int64_t end = std::min(begin + part_, length(sequence) * group_);
      if (begin < end) Task(*this, sequence, index / parts_ % op_.kv_heads, worker).run(begin, end);
    });
  }

 private:
  // The queries of one sequence that read one head of keys and values.
  class Task {
   public:
    Task(const Attention& all, int64_t sequence, int64_t head, int worker)
        : all_(all), sequence_(sequence), head_(head), memory_(all.workspace_.worker(worker)) {}

    void run(int64_t begin, int64_t end) {
      if (!all_.cache_) lay_out(keys_of(end - 1).last);
      for (int64_t query = begin; query < end; query += all_.strip_) strip(query, std::min(all_.strip_, end - query));
    }

   private:
    // Keys that a query reads.
    KeyRange keys_of(int64_t query) const {
      if (!all_.op_.causal) return {0, all_.length(sequence_)};
      const int64_t last = all_.past(sequence_) + query / all_.group_ + 1;
      return {all_.op_.window == 0 ? 0 : std::max<int64_t>(0, last - all_.op_.window), last};
    }

    float* at(const Activation& x, int64_t row, int64_t head) const {
      return data(x) + (all_.first_row(sequence_) + row) * x.stride + head * all_.op_.head_width;
    }
    float* of_query(const Activation& x, int64_t query) const {
      return at(x, query / all_.group_, head_ * all_.group_ + query % all_.group_);
    }

    // Panels of the first `count` keys and values, where there is no cache that holds them.
    void lay_out(int64_t count) {
      const AttentionOp& op = all_.op_;
      all_.table_.pack_rows({at(op.k, 0, head_), op.k.stride, count, op.head_width, all_.keys_.in(memory_)});
      all_.table_.pack_columns({at(op.v, 0, head_), op.v.stride, count, op.head_width, all_.values_.in(memory_)});
      laid_out_ = count;
    }

    // Calls visit(block, first, capacity, range) for the blocks of tokens that hold keys of `range`: `first` is the
    // block's first token, `capacity` the tokens its panels have room for. Without a cache there is one block.
    template <class Visit>
    void for_blocks(KeyRange range, Visit visit) const {
      const int64_t capacity = all_.cache_ ? kKvBlockTokens : laid_out_;
      for (int64_t block = range.first / capacity; block * capacity < range.last; ++block) {
        const int64_t first = block * capacity;
        visit(block, first, capacity, KeyRange{std::max(range.first, first), std::min(range.last, first + capacity)});
      }
    }

    const float* keys(int64_t block) const {
      float* buffer = all_.keys_.in(memory_);
      return all_.cache_ ? all_.cache_->keys(sequence_, head_, block, buffer) : buffer;
    }
    const float* values(int64_t block) const {
      float* buffer = all_.values_.in(memory_);
      return all_.cache_ ? all_.cache_->values(sequence_, head_, block, buffer) : buffer;
    }

    void strip(int64_t first_query, int64_t count) const {
      const AttentionOp& op = all_.op_;
      const int64_t width = op.head_width, panel = all_.table_.panel_width, stride = all_.score_stride_;
      float *const queries = all_.queries_.in(memory_), *const scores = all_.scores_.in(memory_),
                   *const output = all_.output_.in(memory_), *const inverse_sums = all_.inverse_sums_.in(memory_);
      for (int64_t i = 0; i < count; ++i) std::copy_n(of_query(op.q, first_query + i), width, queries + i * width);
      const KeyRange all_keys{keys_of(first_query).first, keys_of(first_query + count - 1).last};

      for_blocks(all_keys, [&](int64_t block, int64_t first, int64_t, KeyRange range) {
        const int64_t first_panel = (range.first - first) / panel,
                      last_panel = (range.last - first + panel - 1) / panel;
        FloatProduct product;
        product.x = queries;
        product.x_stride = width;
        product.rows = count;
        product.depth = width;
        product.panels = keys(block) + first_panel * panel * width;
        product.panel_stride = panel * width;
        product.panel_count = last_panel - first_panel;
        product.tile = scores + first + first_panel * panel;
        product.tile_stride = stride;
        all_.table_.product_f32(product);
      });

      for (int64_t i = 0; i < count; ++i) {
        const KeyRange kept = keys_of(first_query + i);
        float* const row = scores + i * stride;
        all_.table_.softmax({row + kept.first, stride, 1, kept.last - kept.first, op.scale, inverse_sums + i});
        // Keys that other rows of the strip read: fma(0, v, o) is o.
        std::fill(row + all_keys.first, row + kept.first, 0.0f);
        std::fill(row + kept.last, row + all_keys.last, 0.0f);
      }

      Start start = Start::kFromZero;
      for_blocks(all_keys, [&](int64_t block, int64_t first, int64_t capacity, KeyRange range) {
        FloatProduct product;
        product.x = scores + range.first;
        product.x_stride = stride;
        product.rows = count;
        product.depth = range.last - range.first;
        product.panels = values(block) + (range.first - first) * panel;
        product.panel_stride = panel * capacity;
        product.panel_count = all_.value_panels_;
        product.tile = output;
        product.tile_stride = all_.value_panels_ * panel;
        product.start = start;
        all_.table_.product_f32(product);
        start = Start::kFromTile;
      });
      for (int64_t i = 0; i < count; ++i) {
        all_.table_.scale(output + i * all_.value_panels_ * panel, width, inverse_sums[i],
                          of_query(op.y, first_query + i));
      }
    }

    const Attention& all_;
    int64_t sequence_, head_;
    std::byte* memory_;
    int64_t laid_out_ = 0;
  };

  void check() {
    const int64_t rows = op_.q.rows, width = op_.head_width;
    if (op_.heads < 1 || width < 1 || op_.kv_heads < 1 || op_.heads % op_.kv_heads != 0) {
      fail<ShapeError>("attention: {} heads of width {}, {} of keys and values", op_.heads, width, op_.kv_heads);
    }
    check_shape(op_.q, rows, checked_mul(op_.heads, width), "attention: q");
    check_shape(op_.k, rows, checked_mul(op_.kv_heads, width), "attention: k");
    check_shape(op_.v, rows, checked_mul(op_.kv_heads, width), "attention: v");
    check_shape(op_.y, rows, checked_mul(op_.heads, width), "attention: y");
    if (!op_.causal && (op_.cache || op_.window != 0)) {
      fail<ShapeError>("attention: a cache or a window, but not causal");
    }
    longest_ = check_offsets(op_.offsets, op_.sequences, rows);
  }

  int64_t first_row(int64_t sequence) const { return int32s(op_.offsets)[sequence]; }
  int64_t length(int64_t sequence) const { return first_row(sequence + 1) - first_row(sequence); }
  int64_t past(int64_t sequence) const { return cache_ ? cache_->past(sequence) : 0; }
  // Room for the panels of a block of the cache that has to be widened, or of a whole sequence.
  int64_t own_keys() const {
    if (cache_) return cache_->widens() ? cache_->key_elements() : 0;
    return round_up(most_keys_, table_.panel_width) * op_.head_width;
  }
  int64_t own_values() const {
    if (cache_) return cache_->widens() ? cache_->value_elements() : 0;
    return most_keys_ * value_panels_ * table_.panel_width;
  }

  const KernelTable& table_;
  Workspace& workspace_;
  const AttentionOp& op_;
  std::optional<KvReader> cache_;
  int64_t longest_ = 0, most_keys_ = 0, group_ = 1, value_panels_ = 0, score_stride_ = 0, strip_ = 0;
  int threads_ = 1;
  int64_t part_ = 0, parts_ = 0;  // queries of a task, and tasks that share a group

  // What a task works in; added once the sizes above are known.
  Layout layout_;
  Layout::Part<float> keys_{0}, values_{0}, queries_{0}, scores_{0}, output_{0}, inverse_sums_{0};
};

}  // namespace

void attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op) {
  Attention(table, workspace, op).run();
}

}  // namespace octet::cpu

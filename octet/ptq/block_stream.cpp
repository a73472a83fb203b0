// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/block_stream.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "octet/backend/forwarding.h"
#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/base/memory.h"

namespace octet {
namespace {

// Enough rows that laying a piece out and starting threads are small beside the products.
constexpr int64_t kTokensAtOnce = 2048;
// Of a head over the vocabulary, whose outputs are wide.
constexpr int64_t kHeadRowsAtOnce = 64;
// Of batches that were left inside a block; any more begin the block again, which costs time and changes no bit.
constexpr int64_t kPausedBytes = int64_t{1} << 30;

constexpr const char* kWhatToDo =
    "The float model overflows or is damaged: look at what it gives for that text before quantizing it.";

}  // namespace

// Shows rows that meet sites to a visitor, each site's once a batch. Once it has seen all of them it may let nothing
// more happen, if nobody wants the outputs; what was left then goes on here too.
class BlockStream::Watcher final : public ForwardingBackend {
 public:
  Watcher(Backend& backend, const QuantSites& sites, std::span<const int> watched, Visitor visit, bool stops)
      : ForwardingBackend(backend), sites_(sites), watched_(watched), visit_(std::move(visit)), stops_(stops) {}

  // Goes on where `left` was, if it was; `pauses`: so that another pass can go on where this one stops.
  void begin(const TokenBatch& batch, int64_t first_sample, PausedBatch left, bool pauses) {
    batch_ = &batch;
    first_sample_ = first_sample;
    rows_are_samples_ = false;
    operations_ = 0;
    const bool has_all = std::ranges::all_of(
        watched_, [&](int site) { return std::ranges::find(left.sites(), site) != left.sites().end(); });
    left_ = has_all ? std::move(left) : PausedBatch();
    left_.rewind();
    pauses_ = pauses;
    paused_ = PausedBatch();
    begin_rows(0);
  }
  // Row 0 of what comes next is row `first` of the batch.
  void begin_rows(int64_t first) {
    first_row_ = first;
    seen_.clear();
  }
  // What comes next is a row a sequence.
  void rows_are_samples() { rows_are_samples_ = true; }
  // The piece is through; x is what it gives.
  PausedBatch end(const Activation& x) {
    if (left_) left_.restore(inner(), x);
    paused_.keep(inner(), x);
    return std::move(paused_);
  }

  void embed(const EmbedOp& op) override {
    if (!stopped()) ForwardingBackend::embed(op);
  }
  void linear(const LinearOp& op) override {
    const Activation residual = op.residual.value_or(Activation());
    const Activation normalized = op.normalize ? op.normalize->y.value_or(Activation()) : Activation();
    if (!starts({op.x, residual}, {op.y, normalized}, op.site)) return;
    if (!wants(op.site)) {
      ForwardingBackend::linear(op);
      return;
    }
    LinearOp of_rows = op;
    if (op.normalize) {
      // Normalized here, for they are to be seen, and by the contract of numerics with the same bits.
      const Activation rows = op.normalize->y ? *op.normalize->y : take(op.x.rows, op.x.cols);
      if (op.normalize->beta.empty()) {
        inner().rms_norm({.x = op.x, .gamma = op.normalize->gamma, .eps = op.normalize->eps, .y = rows});
      } else {
        inner().layer_norm(
            {.x = op.x, .gamma = op.normalize->gamma, .beta = op.normalize->beta, .eps = op.normalize->eps, .y = rows});
      }
      of_rows.x = rows;
      of_rows.normalize.reset();
    }
    show(op.site, SiteInput::Role::kInput, of_rows.x);
    seen_.push_back(op.site);
    if (!stopped()) ForwardingBackend::linear(of_rows);
  }
  void layer_norm(const LayerNormOp& op) override {
    if (starts({op.x}, {op.y})) ForwardingBackend::layer_norm(op);
  }
  void rms_norm(const RmsNormOp& op) override {
    if (starts({op.x}, {op.y})) ForwardingBackend::rms_norm(op);
  }
  void rope(const RopeOp& op) override {
    if (starts({op.x}, {op.x})) ForwardingBackend::rope(op);
  }
  void gated(const GatedOp& op) override {
    if (starts({op.x}, {op.y})) ForwardingBackend::gated(op);
  }
  void attention(const AttentionOp& op) override {
    if (!starts({op.q, op.k, op.v}, {op.y}, op.site)) return;
    if (wants(op.site)) {
      show(op.site, SiteInput::Role::kQuery, op.q, {op.heads, op.head_width, op.head_stride});
      show(op.site, SiteInput::Role::kKey, op.k, {op.kv_heads, op.head_width, op.head_stride});
      show(op.site, SiteInput::Role::kValue, op.v, {op.kv_heads, op.head_width, op.head_stride});
      seen_.push_back(op.site);
    }
    if (!stopped()) ForwardingBackend::attention(op);
  }
  void pool(const PoolOp& op) override {
    if (!stopped()) ForwardingBackend::pool(op);
  }

 private:
  // Several products of one site read the same rows.
  bool wants(int site) const {
    return std::ranges::find(watched_, site) != watched_.end() && std::ranges::find(seen_, site) == seen_.end();
  }
  bool stopped() const { return stops_ && seen_.size() == watched_.size(); }

  // Whether an operation of a block is to run now. What it reads lies there then.
  bool starts(std::initializer_list<Activation> reads, std::initializer_list<Activation> writes, int site = -1) {
    const int64_t operation = operations_++;
    if (left_ && operation < left_.operation()) return false;
    for (const Activation& x : reads) left_.restore(inner(), x);
    for (const Activation& x : writes) left_.wrote(x);
    const bool was_stopped = stopped();
    // The last one that is watched is where this pass stops: the next one needs what it reads, as it finds it.
    const bool stops = stops_ && !was_stopped && wants(site) && seen_.size() + 1 == watched_.size();
    if (stops && pauses_) paused_ = PausedBatch(operation);
    if (stops || was_stopped) {
      for (const Activation& x : reads) paused_.keep(inner(), x);
      for (const Activation& x : writes) paused_.wrote(x);
      paused_.sites().push_back(site);
    }
    return !was_stopped;
  }

  Activation take(int64_t rows, int64_t cols) {
    const int64_t bytes = rows * cols * int64_t{sizeof(float)};
    if (normalized_.span().bytes() < bytes) normalized_ = DeviceMemory(inner(), bytes);
    return {normalized_.span().slice(0, bytes), rows, cols, cols};
  }

  void show(int site, SiteInput::Role role, const Activation& x, const HeadColumns& heads = {1, 0}) {
    const int64_t columns = heads.width == 0 ? x.cols : heads.count * heads.width;
    rows_.resize(static_cast<size_t>(x.rows * columns));
    if (columns == x.cols) {
      inner().download(x, rows_);
    } else {
      // What lies between the heads belongs to others.
      part_.resize(static_cast<size_t>(x.rows * heads.width));
      for (int64_t h = 0; h < heads.count; ++h) {
        inner().download(x.columns(h * heads.stride, heads.width), part_);
        for (int64_t r = 0; r < x.rows; ++r)
          std::copy_n(part_.begin() + r * heads.width, heads.width, rows_.begin() + r * columns + h * heads.width);
      }
    }
    check(site, columns);
    visit_({.site = sites_[site], .role = role, .columns = columns, .rows = rows_});
  }

  void check(int site, int64_t columns) const {
    const auto bad = first_not_finite(rows_);
    if (!bad) return;
    const int64_t row = *bad / columns;
    const auto after = std::ranges::upper_bound(batch_->offsets, row + first_row_);
    const int64_t sequence = rows_are_samples_ ? row : after - batch_->offsets.begin() - 1;
    fail<NumericError>("layer '{}': its input holds {} in calibration sample {}. {}", sites_[site].name,
                       rows_[static_cast<size_t>(*bad)], first_sample_ + sequence, kWhatToDo);
  }

  const QuantSites& sites_;
  std::span<const int> watched_;
  Visitor visit_;
  bool stops_;
  std::vector<int> seen_;
  DeviceMemory normalized_;
  std::vector<float> rows_, part_;
  const TokenBatch* batch_ = nullptr;
  int64_t first_sample_ = 0, first_row_ = 0;
  bool rows_are_samples_ = false;
  int64_t operations_ = 0;  // of this batch so far
  PausedBatch left_, paused_;
  bool pauses_ = false;
};

namespace {

// A piece that is let go of at the end of a block, an exception's too.
struct LaidOut {
  Model& model;
  int64_t piece;

  ~LaidOut() {
    model.release_piece(piece);
    release_free_memory();
  }
};

// How many samples from `first` on are run together.
int64_t batch_end(const TokenBatch& samples, int64_t first) {
  int64_t last = first + 1;
  while (last < samples.sequences() &&
         samples.offsets[static_cast<size_t>(last + 1)] - samples.offsets[static_cast<size_t>(first)] <= kTokensAtOnce)
    ++last;
  return last;
}

}  // namespace

std::string piece_name(const Model& model, int64_t piece) {
  if (piece == 0) return "the embedding";
  return piece <= model.info().blocks ? fmt::format("block {}", piece - 1) : "the head";
}

BlockStream::BlockStream(Model& model, Backend& backend, const TokenBatch& samples,
                         std::function<void(int64_t)> advance)
    : model_(model), backend_(backend), samples_(samples), advance_(std::move(advance)), workspace_(backend) {
  model.check_inputs(samples);
}

void BlockStream::run(Outputs outputs, std::span<const int> sites, const Visitor& visit) {
  if (done()) fail("a stream ran past a model's head");
  const bool takes = outputs == Outputs::kTaken, is_head = piece_ == model_.pieces() - 1;
  const bool pauses = outputs == Outputs::kPaused && piece_ > 0 && !is_head;
  std::vector<PausedBatch> left = std::exchange(paused_, {});
  int64_t paused_bytes = 0;
  // The outputs of a head are nobody's inputs.
  const bool stops = !takes || is_head;
  if (stops && sites.empty()) {
    if (advance_) advance_(samples_.sequences());
  } else {
    Watcher watcher(backend_, model_.sites(), sites, visit, stops);
    model_.prepare_piece(backend_, piece_, Sources::kKept);
    const LaidOut laid_out{model_, piece_};
    size_t index = 0;
    for (int64_t first = 0; first < samples_.sequences(); ++index) {
      const int64_t last = batch_end(samples_, first);
      const TokenBatch batch = samples_.slice(first, last);
      watcher.begin(batch, first, index < left.size() ? std::move(left[index]) : PausedBatch(),
                    pauses && paused_bytes < kPausedBytes);
      PausedBatch paused = run_batch(watcher, batch, first, stops);
      paused_bytes += paused.bytes();
      if (pauses) paused_.push_back(std::move(paused));
      if (advance_) advance_(last - first);
      first = last;
    }
  }
  if (takes) ++piece_;
}

PausedBatch BlockStream::run_batch(Watcher& watcher, const TokenBatch& batch, int64_t first_sample, bool stops) {
  const Workspace::Scope scope(workspace_);
  Context context{watcher, workspace_};
  const DeviceBatch on_device = upload(context, batch);
  const auto first_row = static_cast<size_t>(samples_.offsets[static_cast<size_t>(first_sample)]);
  const auto states = [&] {
    return std::span(states_).subspan(first_row * static_cast<size_t>(width_),
                                      static_cast<size_t>(batch.tokens() * width_));
  };
  Activation x;
  if (piece_ == 0) {
    x = model_.embed(context, on_device);
    width_ = x.cols;
    states_.resize(static_cast<size_t>(samples_.tokens() * width_));
  } else {
    x = workspace_.take_matrix(batch.tokens(), width_);
    backend_.upload(std::as_bytes(states()), x.memory);
  }
  if (piece_ == model_.pieces() - 1) {
    run_head(context, watcher, on_device, x);
  } else if (piece_ > 0) {
    model_.run_block(context, piece_ - 1, on_device, x);
  }
  PausedBatch paused = watcher.end(x);
  if (stops) return paused;
  backend_.download(x, states());
  check_finite(states(), batch, first_sample);
  return paused;
}

void BlockStream::run_head(Context& context, Watcher& watcher, const DeviceBatch& batch, const Activation& x) {
  if (model_.info().output == OutputKind::kSequenceLogits) {
    watcher.rows_are_samples();
    model_.head(context, batch, x);
    return;
  }
  for (int64_t first = 0; first < x.rows; first += kHeadRowsAtOnce) {
    const Workspace::Scope scope(workspace_);
    watcher.begin_rows(first);
    model_.head(context, batch, x.row_range(first, std::min(kHeadRowsAtOnce, x.rows - first)));
  }
}

void BlockStream::check_finite(std::span<const float> states, const TokenBatch& batch, int64_t first_sample) const {
  const auto bad = first_not_finite(states);
  if (!bad) return;
  const auto after = std::ranges::upper_bound(batch.offsets, *bad / width_);
  fail<NumericError>("{} gives {} in calibration sample {}. {}", piece_name(model_, piece_),
                     states[static_cast<size_t>(*bad)], first_sample + (after - batch.offsets.begin() - 1), kWhatToDo);
}

void BlockStream::resume(int64_t piece, std::vector<float> hidden_states) {
  const int64_t tokens = samples_.tokens();
  if (piece < 1 || piece >= model_.pieces() || tokens == 0 || std::ssize(hidden_states) % tokens != 0 ||
      hidden_states.empty()) {
    fail<ShapeError>("{} hidden states of {} tokens before piece {} of {}", hidden_states.size(), tokens, piece,
                     model_.pieces());
  }
  piece_ = piece;
  paused_.clear();
  width_ = std::ssize(hidden_states) / tokens;
  states_ = std::move(hidden_states);
}

}  // namespace octet

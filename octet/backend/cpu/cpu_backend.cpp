// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "octet/backend/cpu/isa.h"
#include "octet/backend/cpu/kv_blocks.h"
#include "octet/backend/cpu/operations.h"
#include "octet/backend/cpu/packed_weight.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet {
namespace cpu {

void check_shape(const Activation& x, int64_t rows, int64_t cols, const char* operand) {
  if (x.codes) fail<ShapeError>("{} is codes; fp32 is needed", operand);
  check_floats_or_codes(x, rows, cols, operand);
}

void check_floats_or_codes(const Activation& x, int64_t rows, int64_t cols, const char* operand) {
  if (x.rows != rows || x.cols != cols || x.rows < 0 || x.stride < x.cols) {
    fail<ShapeError>("{} is [{}, {}] with {} from row to row; [{}, {}] is needed", operand, x.rows, x.cols, x.stride,
                     rows, cols);
  }
  const auto bytes = [&] { return checked_mul(checked_add(checked_mul(rows - 1, x.stride), cols), x.element_bytes()); };
  if (rows > 0 && bytes() > x.memory.bytes()) {
    fail<ShapeError>("{}: [{}, {}] with {} from row to row does not fit its {} bytes", operand, rows, cols, x.stride,
                     x.memory.bytes());
  }
}

void check_vector(DeviceSpan memory, int64_t count, const char* operand) {
  if (memory.bytes() < checked_mul(count, 4)) {
    fail<ShapeError>("{} has {} bytes; {} elements of four bytes are needed", operand, memory.bytes(), count);
  }
}

int64_t check_offsets(DeviceSpan memory, int64_t sequences, int64_t rows) {
  if (sequences < 0) fail<ShapeError>("{} sequences", sequences);
  check_vector(memory, checked_add(sequences, 1), "offsets");
  const int32_t* offsets = int32s(memory);
  int64_t longest = 0;
  bool ascending = true;
  for (int64_t b = 0; b < sequences; ++b) {
    longest = std::max<int64_t>(longest, int64_t{offsets[b + 1]} - offsets[b]);
    ascending = ascending && offsets[b + 1] >= offsets[b];
  }
  if (!ascending || offsets[0] != 0 || offsets[sequences] != rows) {
    fail<ShapeError>("offsets of {} sequences do not ascend from 0 to the {} rows", sequences, rows);
  }
  return longest;
}

int threads_for(int64_t work, int threads) { return static_cast<int>(std::clamp<int64_t>(work >> 17, 1, threads)); }

namespace {

// Sine and cosine are right up to 2^20; what a frequency that is not finite gives is NaN.
void check_angles(std::span<const int32_t> positions, std::span<const float> frequencies) {
  int32_t farthest = 0;
  for (const int32_t position : positions) {
    if (position < 0) fail<ShapeError>("rope: position {}", position);
    farthest = std::max(farthest, position);
  }
  for (const float frequency : frequencies) {
    const float angle = std::abs(static_cast<float>(farthest) * frequency);
    if (std::isfinite(angle) && angle > 0x1p20f) {
      fail<ShapeError>("rope: position {} at {} radians a position; angles up to 2^20 can be turned by", farthest,
                       frequency);
    }
  }
}

TableElement element_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return TableElement::kF64;
    case DType::kF32:
      return TableElement::kF32;
    case DType::kF16:
      return TableElement::kF16;
    case DType::kBF16:
      return TableElement::kBF16;
    default:
      fail("embed: a table of {}; floating point is needed", name(dtype));
  }
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const KernelTable& table, int threads) : table_(table), workspace_(threads) {}

  int threads() const noexcept override { return workspace_.threads(); }
  std::string describe() const override {
    const int threads = workspace_.threads();
    return fmt::format("cpu {}, {} thread{}", table_.name, threads, threads == 1 ? "" : "s");
  }

  DeviceSpan allocate(int64_t bytes) override {
    if (bytes < 0) fail("{} bytes of memory were asked for", bytes);
    const int64_t rounded = round_up(checked_add(bytes, kCacheLine), kCacheLine);  // never zero
    auto* address = static_cast<std::byte*>(std::aligned_alloc(kCacheLine, static_cast<size_t>(rounded)));
    if (address == nullptr) fail("not enough memory for {} bytes", bytes);
    return {address, bytes};
  }

  void free(DeviceSpan memory) noexcept override { std::free(memory.address()); }

  void upload(std::span<const std::byte> source, DeviceSpan target) override {
    if (std::cmp_greater(source.size(), target.bytes())) {
      fail<ShapeError>("upload: {} bytes into {}", source.size(), target.bytes());
    }
    std::copy(source.begin(), source.end(), target.address());
  }

  void download(DeviceSpan source, std::span<std::byte> target) override {
    if (std::cmp_greater(target.size(), source.bytes())) {
      fail<ShapeError>("download: {} bytes of {}", target.size(), source.bytes());
    }
    std::copy_n(source.address(), target.size(), target.begin());
  }

  void copy(DeviceSpan source, DeviceSpan target) override {
    if (source.bytes() > target.bytes()) fail<ShapeError>("copy: {} bytes into {}", source.bytes(), target.bytes());
    std::copy_n(source.address(), source.bytes(), target.address());
  }

  void fill_zero(DeviceSpan target) override { std::fill_n(target.address(), target.bytes(), std::byte{0}); }

  void download(const Activation& x, std::span<float> target) override {
    check_shape(x, x.rows, x.cols, "download: x");
    if (std::cmp_not_equal(target.size(), x.rows * x.cols)) {
      fail<ShapeError>("download: [{}, {}] into {} floats", x.rows, x.cols, target.size());
    }
    for (int64_t r = 0; r < x.rows; ++r) std::copy_n(data(x) + r * x.stride, x.cols, target.begin() + r * x.cols);
  }

  DeviceTable table(const Tensor& tensor) override {
    const Shape& shape = tensor.shape();
    if (shape.rank() != 2) fail<ShapeError>("a table of shape {}; two dimensions are needed", to_string(shape));
    element_of(tensor.dtype());
    // Nothing writes through a table.
    auto* address = const_cast<std::byte*>(tensor.view().data);
    return {{address, tensor.bytes()}, tensor.dtype(), shape[0], shape[1]};
  }

  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts) override {
    return std::make_unique<CpuWeight>(table_, workspace_.threads(), parts);
  }
  std::unique_ptr<PackedWeight> pack(std::span<const QTensor* const> parts, ActivationMode activations) override {
    return std::make_unique<CpuWeight>(table_, workspace_.threads(), parts, activations);
  }
  std::unique_ptr<PackedWeight> pack(const DeviceTable& values) override {
    check_table(values, "pack: values");
    const ConstTensorView parts[] = {{values.dtype, {values.rows, values.cols}, values.memory.address()}};
    return pack(parts);
  }
  QTensor unpack(const PackedWeight& packed) const override { return own(packed, "unpack").unpack(); }

  int64_t kv_bytes(DType dtype, int64_t kv_heads, int64_t head_width) const override {
    return cpu::kv_bytes(table_, dtype, kv_heads, head_width);
  }

  void widen(const WidenOp& op) override {
    check_shape(op.y, op.x.rows, op.x.cols, "widen: y");
    check_table(op.x, "widen: x");
    const int64_t row_bytes = op.x.cols * byte_size(op.x.dtype);
    const TableElement element = element_of(op.x.dtype);
    for_rows(op.x.rows, op.x.cols, [&](int64_t row) {
      table_.embed(op.x.memory.address() + row * row_bytes, element, op.x.cols, Start::kFromZero,
                   data(op.y) + row * op.y.stride);
    });
  }

  void embed(const EmbedOp& op) override {
    const int64_t rows = op.y.rows, cols = op.y.cols;
    check_shape(op.y, rows, cols, "embed: y");
    if (op.lookups.empty()) fail<ShapeError>("embed: no table to look up in");
    for (const EmbedOp::Lookup& lookup : op.lookups) {
      check_vector(lookup.indices, rows, "embed: indices");
      const int64_t width = lookup.packed != nullptr ? own(*lookup.packed, "embed").cols() : lookup.table.cols;
      if (width != cols) fail<ShapeError>("embed: a table of {} columns for {}", width, cols);
    }
    for_rows(rows, cols, [&](int64_t row) {
      Start start = Start::kFromZero;
      float* y = data(op.y) + row * op.y.stride;
      for (const EmbedOp::Lookup& lookup : op.lookups) {
        const int64_t index = int32s(lookup.indices)[row];
        if (lookup.packed != nullptr) {
          static_cast<const CpuWeight*>(lookup.packed)->read_row(index, start, y);
        } else {
          const std::byte* entry = lookup.table.memory.address() + index * cols * byte_size(lookup.table.dtype);
          table_.embed(entry, element_of(lookup.table.dtype), cols, start, y);
        }
        start = Start::kFromTile;
      }
    });
  }

  void linear(const LinearOp& op) override { note(cpu::linear(table_, workspace_, op), op.site, op.y); }

  void matmul(const MatmulOp& op) override { note(cpu::matmul(table_, workspace_, op), op.site, op.y); }

  void layer_norm(const LayerNormOp& op) override {
    check_shape(op.x, op.x.rows, op.x.cols, "layer_norm: x");
    check_shape(op.y, op.x.rows, op.x.cols, "layer_norm: y");
    check_vector(op.gamma, op.x.cols, "layer_norm: gamma");
    check_vector(op.beta, op.x.cols, "layer_norm: beta");
    for_row_blocks(threads(), op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
      table_.layer_norm({data(op.x) + first * op.x.stride, op.x.stride, count, op.x.cols, floats(op.gamma),
                         floats(op.beta), op.eps, data(op.y) + first * op.y.stride, op.y.stride});
    });
  }

  void rms_norm(const RmsNormOp& op) override {
    check_shape(op.x, op.x.rows, op.x.cols, "rms_norm: x");
    check_shape(op.y, op.x.rows, op.x.cols, "rms_norm: y");
    check_vector(op.gamma, op.x.cols, "rms_norm: gamma");
    for_row_blocks(threads(), op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
      table_.rms_norm({data(op.x) + first * op.x.stride, op.x.stride, count, op.x.cols, floats(op.gamma), op.eps,
                       data(op.y) + first * op.y.stride, op.y.stride});
    });
  }

  void rope(const RopeOp& op) override {
    const HeadColumns& heads = op.heads;
    if (heads.count < 1 || heads.width < 1 || heads.stride < heads.width) {
      fail<ShapeError>("rope: {} heads of width {}, with {} from one to the next", heads.count, heads.width,
                       heads.stride);
    }
    if (op.rotary_width < 0 || op.rotary_width > heads.width || op.rotary_width % 2 != 0) {
      fail<ShapeError>("rope: {} columns of {} to turn; an even number up to these is needed", op.rotary_width,
                       heads.width);
    }
    check_shape(op.x, op.x.rows, checked_add(checked_mul(heads.count - 1, heads.stride), heads.width), "rope: x");
    check_vector(op.positions, op.x.rows, "rope: positions");
    check_vector(op.frequencies, op.rotary_width / 2, "rope: frequencies");
    check_angles(std::span(int32s(op.positions), static_cast<size_t>(op.x.rows)),
                 std::span(floats(op.frequencies), static_cast<size_t>(op.rotary_width / 2)));
    for_row_blocks(threads(), op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
      table_.rope({data(op.x) + first * op.x.stride, op.x.stride, count, heads.count, heads.stride, op.rotary_width / 2,
                   op.layout, int32s(op.positions) + first, floats(op.frequencies), op.factor, op.backward});
    });
  }

  void gated(const GatedOp& op) override { note(cpu::gated(table_, workspace_, op), 0, op.y); }

  void attention(const AttentionOp& op) override { note(cpu::attention(table_, workspace_, op), op.site, op.y); }

  void pool(const PoolOp& op) override {
    check_shape(op.x, op.x.rows, op.x.cols, "pool: x");
    check_shape(op.y, op.y.rows, op.x.cols, "pool: y");
    check_offsets(op.offsets, op.y.rows, op.x.rows);
    const int32_t* offsets = int32s(op.offsets);
    const int64_t cols = op.x.cols;
    parallel_for(threads_for(op.x.rows * cols, workspace_.threads()), op.y.rows, [&](int64_t sequence, int) {
      const int64_t first = offsets[sequence], length = offsets[sequence + 1] - first;
      float* y = data(op.y) + sequence * op.y.stride;
      if (length == 0) {
        std::fill_n(y, cols, 0.0f);
        return;
      }
      PoolColumns columns{data(op.x) + first * op.x.stride, op.x.stride, length, cols, PoolColumns::Kind::kSum, 1, y};
      switch (op.pooling) {
        case Pooling::kMean:
          columns.divisor = static_cast<float>(length);
          break;
        case Pooling::kMax:
          columns.kind = PoolColumns::Kind::kMax;
          break;
        case Pooling::kFirst:
          columns.rows = 1;
          break;
        case Pooling::kMeanSqrtLength:
          columns.divisor = std::sqrt(static_cast<float>(length));
          break;
      }
      table_.pool(columns);
    });
  }

  void l2_normalize(const Activation& x) override {
    check_shape(x, x.rows, x.cols, "l2_normalize: x");
    for_rows(x.rows, x.cols, [&](int64_t row) { table_.l2_normalize(data(x) + row * x.stride, x.cols); });
  }

  void nonlinearity(const NonlinearityOp& op) override { cpu::nonlinearity(table_, threads(), op); }
  void nonlinearity_gradient(const NonlinearityGradientOp& op) override {
    cpu::nonlinearity_gradient(table_, threads(), op);
  }
  void gated_gradient(const GatedGradientOp& op) override { cpu::gated_gradient(table_, threads(), op); }
  void norm_gradient(const NormGradientOp& op) override { cpu::norm_gradient(table_, workspace_, op); }
  void attention_gradient(const AttentionGradientOp& op) override { cpu::attention_gradient(table_, workspace_, op); }
  void pool_gradient(const PoolGradientOp& op) override { cpu::pool_gradient(threads(), op); }
  void embed_gradient(const EmbedGradientOp& op) override { cpu::embed_gradient(threads(), op); }
  void column_sums(const ColumnSumsOp& op) override { cpu::column_sums(table_, workspace_, op); }
  void add(const AddOp& op) override { cpu::add(threads(), op); }
  void dropout(const DropoutOp& op) override { cpu::dropout(table_, threads(), op); }
  void round_trip(const RoundTripOp& op) override { cpu::round_trip(threads(), op); }
  void clip_gradient(const ClipGradientOp& op) override { cpu::clip_gradient(workspace_, op); }
  void cross_entropy(const CrossEntropyOp& op) override { cpu::cross_entropy(table_, workspace_, op); }
  void distill(const DistillOp& op) override { cpu::distill(table_, workspace_, op); }
  void squared_error(const SquaredErrorOp& op) override { cpu::squared_error(threads(), op); }
  void adamw(const AdamwOp& op) override { cpu::adamw(table_, threads(), op); }

  void sgd(const SgdOp& op) override { cpu::sgd(table_, threads(), op); }
  double squared_norm(DeviceSpan x, int64_t count) override { return cpu::squared_norm(workspace_, x, count); }

  std::optional<NumericFault> take_fault() override { return std::exchange(fault_, std::nullopt); }

 private:
  static constexpr int64_t kCacheLine = 64;

  void note(const Faults& faults, int input_site, const Activation& y) {
    if (fault_) return;
    if (faults.input) {
      fault_ = NumericFault{input_site, *faults.input};
    } else if (faults.output) {
      fault_ = NumericFault{y.codes->site, *faults.output};
    }
  }

  // A weight as this backend made it.
  const CpuWeight& own(const PackedWeight& packed, const char* operation) const {
    const auto* weight = dynamic_cast<const CpuWeight*>(&packed);
    if (weight == nullptr || &weight->table() != &table_) {
      fail("{}: the weight was not packed by this backend", operation);
    }
    return *weight;
  }

  static void check_table(const DeviceTable& table, const char* operand) {
    if (table.memory.bytes() != checked_mul(checked_mul(table.rows, table.cols), byte_size(table.dtype))) {
      fail<ShapeError>("{}: {} x {} of {} do not take {} bytes", operand, table.rows, table.cols, name(table.dtype),
                       table.memory.bytes());
    }
  }

  template <class Body>
  void for_rows(int64_t rows, int64_t cols, Body body) {
    for_row_blocks(threads(), rows, cols, [&](int64_t first, int64_t count) {
      for (int64_t row = first; row < first + count; ++row) body(row);
    });
  }

  const KernelTable& table_;
  Workspace workspace_;
  std::optional<NumericFault> fault_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  const int threads = options.threads > 0 ? options.threads : available_threads();
  return std::make_unique<cpu::CpuBackend>(cpu::kernels(options.isa), threads);
}

}  // namespace octet

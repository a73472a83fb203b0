// SPDX-License-Identifier: Apache-2.0
#include "octet/models/token_batch.h"

#include <algorithm>

#include "octet/base/checked.h"

namespace octet {
namespace {

std::vector<int32_t> as_int32(const Tensor& tensor, const char* what) {
  std::vector<int32_t> values;
  values.reserve(static_cast<size_t>(tensor.shape().elements()));
  const auto append = [&](auto elements) {
    for (const auto element : elements) values.push_back(narrow<int32_t>(static_cast<int64_t>(element)));
  };
  switch (tensor.dtype()) {
    case DType::kI64:
      append(tensor.as<int64_t>());
      break;
    case DType::kI32:
      append(tensor.as<int32_t>());
      break;
    case DType::kI8:
      append(tensor.as<int8_t>());
      break;
    case DType::kU8:
      append(tensor.as<uint8_t>());
      break;
    default:
      fail("{} must be integers; they are {}", what, name(tensor.dtype()));
  }
  return values;
}

// The values of `tensor`, or `otherwise` for every element of `like` where there is no tensor.
std::vector<int32_t> values_or(const Tensor* tensor, const char* what, const Shape& like, int32_t otherwise) {
  if (tensor == nullptr) return std::vector<int32_t>(static_cast<size_t>(like.elements()), otherwise);
  if (tensor->shape() != like)
    fail<ShapeError>("{} have the shape {}, ids {}", what, to_string(tensor->shape()), to_string(like));
  return as_int32(*tensor, what);
}

}  // namespace

int64_t TokenBatch::longest() const noexcept {
  int64_t longest = 0;
  for (size_t b = 1; b < offsets.size(); ++b) longest = std::max<int64_t>(longest, offsets[b] - offsets[b - 1]);
  return longest;
}

void TokenBatch::add(std::span<const int32_t> sequence_ids, std::span<const int32_t> sequence_type_ids,
                     int64_t first_position) {
  if (!sequence_type_ids.empty() && sequence_type_ids.size() != sequence_ids.size()) {
    fail<ShapeError>("{} type ids for {} tokens", sequence_type_ids.size(), sequence_ids.size());
  }
  ids.insert(ids.end(), sequence_ids.begin(), sequence_ids.end());
  for (size_t i = 0; i < sequence_ids.size(); ++i) {
    positions.push_back(narrow<int32_t>(first_position + static_cast<int64_t>(i)));
    type_ids.push_back(sequence_type_ids.empty() ? 0 : sequence_type_ids[i]);
  }
  offsets.push_back(narrow<int32_t>(tokens()));
}

TokenBatch TokenBatch::slice(int64_t first, int64_t last) const {
  const int32_t begin = offsets.at(static_cast<size_t>(first)), end = offsets.at(static_cast<size_t>(last));
  const auto part = [&](const std::vector<int32_t>& values) {
    return std::vector<int32_t>(values.begin() + begin, values.begin() + end);
  };
  TokenBatch out{.ids = part(ids), .positions = part(positions), .type_ids = part(type_ids), .offsets = {}};
  for (int64_t b = first; b <= last; ++b) out.offsets.push_back(offsets[static_cast<size_t>(b)] - begin);
  return out;
}

TokenBatch TokenBatch::from_matrix(const Tensor& ids, const Tensor* mask, const Tensor* type_ids) {
  if (ids.shape().rank() != 2)
    fail<ShapeError>("ids have the shape {}; [batch, seq] is needed", to_string(ids.shape()));
  const std::vector<int32_t> id = as_int32(ids, "ids");
  const std::vector<int32_t> kept = values_or(mask, "masks", ids.shape(), 1);
  const std::vector<int32_t> type = values_or(type_ids, "type ids", ids.shape(), 0);
  const int64_t rows = ids.shape()[0], cols = ids.shape()[1];
  TokenBatch batch;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      if (kept[i] != 0 && kept[i] != 1) fail("a mask holds {} in row {}, column {}; masks are 0 or 1", kept[i], r, c);
      if (kept[i] == 0) continue;
      batch.ids.push_back(id[i]);
      batch.positions.push_back(static_cast<int32_t>(c));
      batch.type_ids.push_back(type[i]);
    }
    batch.offsets.push_back(narrow<int32_t>(batch.tokens()));
  }
  return batch;
}

DeviceBatch upload(Context& context, const TokenBatch& batch) {
  const auto up = [&](const std::vector<int32_t>& values) { return context.workspace.upload(std::span(values)); };
  return {.host = batch,
          .ids = up(batch.ids),
          .positions = up(batch.positions),
          .type_ids = up(batch.type_ids),
          .offsets = up(batch.offsets)};
}

}  // namespace octet

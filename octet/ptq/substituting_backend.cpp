// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/substituting_backend.h"

#include <utility>

#include "octet/nn/layers.h"

namespace octet {

void SubstitutingBackend::substitute(int site, std::vector<Product> products) {
  if (products.empty()) {
    products_.erase(site);
  } else {
    products_[site] = std::move(products);
  }
}

void SubstitutingBackend::watch() {
  inputs_.clear();
  watching_ = true;
}

std::vector<SubstitutingBackend::Input> SubstitutingBackend::take_inputs() {
  watching_ = false;
  return std::exchange(inputs_, {});
}

void SubstitutingBackend::keep_input(const LinearOp& op) {
  Input input{.site = op.site, .rows = op.x.rows, .cols = op.x.cols, .values = {}};
  input.values.resize(static_cast<size_t>(input.rows * input.cols));
  if (op.normalize) {
    const Workspace::Scope scope(scratch_);
    Context context{inner(), scratch_};
    const Activation rows = scratch_.take_matrix(op.x.rows, op.x.cols);
    normalize(context, *op.normalize, op.x, rows);
    inner().download(rows, input.values);
  } else {
    inner().download(op.x, input.values);
  }
  inputs_.push_back(std::move(input));
}

void SubstitutingBackend::linear(const LinearOp& op) {
  if (watching_) keep_input(op);
  const auto found = products_.find(op.site);
  if (found == products_.end()) {
    inner().linear(op);
    return;
  }
  const Workspace::Scope scope(scratch_);
  LinearOp product = op;
  // Several products read the rows: they are normalized once, as Linear does it, for they may be normalized in place.
  if (op.normalize && found->second.size() > 1) {
    Context context{inner(), scratch_};
    product.x = op.normalize->y ? *op.normalize->y : scratch_.take_matrix(op.x.rows, op.x.cols);
    normalize(context, *op.normalize, op.x, product.x);
    product.normalize.reset();
  }
  for (const Product& part : found->second) {
    const int64_t columns = part.weight->rows();
    product.weight = part.weight;
    product.input = part.input;
    if (!op.bias.empty()) product.bias = op.bias.slice(part.first_column * 4, columns * 4);
    product.y = op.y.columns(part.first_column, columns);
    if (op.residual) product.residual = op.residual->columns(part.first_column, columns);
    inner().linear(product);
  }
}

}  // namespace octet

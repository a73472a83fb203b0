// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <vector>

#include "octet/backend/forwarding.h"
#include "octet/nn/workspace.h"

namespace octet {

/// A backend that passes everything on to another, but computes the products of chosen sites with other weights: what a
/// model would do if some of its layers were quantized, without making that model. By the numerics contract the bits
/// are those of a model that is loaded so. It also watches which sites products read, and what.
class SubstitutingBackend final : public ForwardingBackend {
 public:
  /// Some neighbouring outputs of a site.
  struct Product {
    int64_t first_column = 0;
    const PackedWeight* weight = nullptr;  ///< [columns, inputs of the site]
    ActivationScale input = {};            ///< for a weight that was packed for static activations
  };
  /// The rows that a site read, normalized where its products normalize them.
  struct Input {
    int site = 0;
    int64_t rows = 0, cols = 0;
    std::vector<float> values;
  };

  explicit SubstitutingBackend(Backend& inner) : ForwardingBackend(inner), scratch_(inner) {}

  /// From now on the site's products are these; together they make up all of its outputs. None: its own again.
  void substitute(int site, std::vector<Product> products);
  void restore_all() { products_.clear(); }

  /// Keeps what each site reads from now on, in the order in which they are met.
  void watch();
  /// What was met since watch(), which ends.
  std::vector<Input> take_inputs();

  void linear(const LinearOp& op) override;

 private:
  void keep_input(const LinearOp& op);

  Workspace scratch_;
  std::map<int, std::vector<Product>> products_;
  std::vector<Input> inputs_;
  bool watching_ = false;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/budget.h"

#include "octet/base/error.h"

namespace octet::jinja {

void Budget::step(int64_t count) {
  steps_ += count;
  if (steps_ > limits_.steps) fail<OperationError>("rendering takes more than {} steps", limits_.steps);
}

void Budget::print(size_t bytes) {
  printed_ += static_cast<int64_t>(bytes);
  if (printed_ > limits_.output_bytes) fail<OperationError>("more than {} bytes are printed", limits_.output_bytes);
}

void Budget::expect(size_t bytes) const {
  if (std::cmp_greater(bytes, limits_.memory_bytes - held_)) {
    fail<OperationError>("values take more than {} bytes of memory", limits_.memory_bytes);
  }
}

void Budget::hold(size_t bytes) {
  expect(bytes);
  held_ += static_cast<int64_t>(bytes);
}

}  // namespace octet::jinja

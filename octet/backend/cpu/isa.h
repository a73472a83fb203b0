// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "octet/backend/cpu/kernels.h"

namespace octet::cpu {

/// The kernels called `name`; for an empty name those that OCTET_ISA names, else the best that this processor runs.
/// Throws UsageError as make_cpu_backend does.
const KernelTable& kernels(std::string_view name);

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

struct CpuBackendOptions {
  int threads = 0;       ///< 0: as many as the process may run on
  std::string isa = {};  ///< "ref", "avx2", …; empty: OCTET_ISA if it is set, else the best this processor runs
};

/// Throws UsageError for an instruction set that is unknown, not built in, or not run by this processor.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

/// Names of the instruction sets built in that this processor runs, the plainest ("ref") first, the chosen last.
std::vector<std::string> cpu_isas();

}  // namespace octet

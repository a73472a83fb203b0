// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace octet {

/// What this processor and its operating system offer, as far as Octet's kernels care.
struct CpuFeatures {
  std::string name;   ///< the processor's own name, e.g. "Intel(R) Xeon(R) Processor"; "unknown" where it has none
  bool avx2 = false;  ///< AVX2, FMA and F16C together: no processor has the first without the others
  bool avx512_vnni = false;  ///< AVX-512 F, BW, VL, DQ and VNNI
};

/// Read once; the same answer for the life of the process.
const CpuFeatures& cpu_features();

}  // namespace octet

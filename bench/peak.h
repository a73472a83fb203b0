// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

/// What this machine can do at best, measured: what the speed of a product is a share of.
namespace octet::bench {

struct Peak {
  double fp32_macs = 0;             ///< multiply-adds a second by fma on registers, all threads together; 0: no probe
  double integer_macs = 0;          ///< the same of `integer_instruction`
  std::string integer_instruction;  ///< "pmaddwd" (int16 pairs into int32), with VNNI "vpdpbusd" (u8·s8 into int32)
  double saturating_macs = 0;  ///< of maddubs, whose int16 sums of pairs may saturate; 0 where VNNI makes it needless
  double read_bytes = 0;       ///< bytes a second read from memory, all threads together
};

/// With the vectors of the instruction set `isa` ("avx2", "avx512_vnni"), which must run here. Takes about a second.
Peak measure_peak(const std::string& isa, int threads);

}  // namespace octet::bench

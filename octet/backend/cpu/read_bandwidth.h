// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// Bytes a second that `threads` threads together read from memory at best: what the speed of anything that reads large
/// weights once is a share of. Takes up to a second, and up to 1 GiB of memory while it runs.
double measure_read_bandwidth(int threads);

/// Of the last-level cache, as far as the system tells; else a guess of 32 MiB.
int64_t last_level_cache_bytes();

}  // namespace octet

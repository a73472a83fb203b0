// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace octet {

/// Gives memory that was freed back to the system, where the C library would keep it for later.
void release_free_memory() noexcept;

}  // namespace octet

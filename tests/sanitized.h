// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sanitizers make everything many times slower, and have their own memory management.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OCTET_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OCTET_SANITIZED 1
#endif
#endif
#ifndef OCTET_SANITIZED
#define OCTET_SANITIZED 0
#endif

namespace octet {

// Fewer samples then.
inline constexpr bool kSanitized = OCTET_SANITIZED != 0;

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/text/aligned_text.h"

namespace octet {

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

/// Unicode normalization (UAX #15) in place, without a quick check. A character keeps the alignment that the
/// `tokenizers` library gives it: one that takes a former character's place has that character's alignment, in order of
/// appearance (marks that were reordered included); one that decomposition inserts has that of the former character
/// before it.
void normalize(AlignedText& text, NormalizationForm form);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/atomic_output.h"
#include "octet/ptq/calibration_data.h"
#include "octet/ptq/quantized_pieces.h"

namespace octet {

/// Sends calibration samples through the float model in `checkpoint`, piece after piece, and quantizes each piece on
/// the way (see PieceQuantizer). Holds the hidden states of all samples, one piece and what is known of its inputs.
///
/// Every piece that is done lies in a file of `directory`, whose names begin with a dot, and so do the hidden states
/// after it, so that a run that was killed goes on there, with the same bits. `advance(done, total)` counts samples
/// that a piece was run on; those of pieces that were taken up count at once.
QuantizedPieces quantize_pieces(const Checkpoint& checkpoint, const Recipe& recipe,
                                std::map<std::string, LayerTarget> targets, const CalibrationData& data,
                                ResumableDirectory& directory, const CpuBackendOptions& cpu,
                                const std::function<void(int64_t done, int64_t total)>& advance);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "octet/models/session.h"

namespace octet {

/// Times of repeated runs, in milliseconds. On a noisy machine the minimum says what the work costs, the median what
/// to expect.
struct Timing {
  double min_ms = 0, median_ms = 0;
  int64_t repetitions = 0;
};

/// Throws Error for no times.
Timing summarize(std::vector<double> milliseconds);

/// `batch` sequences of `seq` tokens each, all kept, drawn uniformly from the vocabulary with a fixed seed. Throws
/// Error where the model does not take such a batch.
TokenBatch random_batch(const ModelInfo& info, int64_t batch, int64_t seq);

/// Forward passes of `batch`, head included, after `warm_up` untimed ones; the output stays with the backend.
Timing time_forward(Session& session, const TokenBatch& batch, int64_t warm_up, int64_t repetitions);

struct DecoderLoad {
  int64_t batch = 1, seq = 512;                  ///< prompts, and tokens in each
  int64_t decode_tokens = 64;                    ///< that then follow each, one by one
  std::optional<DType> kv_dtype = std::nullopt;  ///< see Session::make_cache
  int64_t warm_up = 1, repetitions = 5;
};

/// Times of a decoder, of all sequences together.
struct DecoderTiming {
  Timing prefill, decode;
  int64_t prefill_tokens = 0, decode_tokens = 0;
  DType kv_dtype = DType::kF32;  ///< of the cache
  int64_t kv_bytes = 0;          ///< of the cache at its largest
  /// What a step of decoding reads, the mean of all: every weight that a token meets, once, and the keys and values of
  /// all tokens of every sequence.
  double weight_bytes_read = 0, kv_bytes_read = 0;
  int64_t decode_steps = 0;
  int64_t anonymous_bytes = 0;           ///< of the process (see anonymous_bytes) with all that was at work
  double process_to_first_token_ms = 0;  ///< from the start of the process to the end of the first prefill

  /// By the median.
  double prefill_tokens_per_s() const noexcept;
  double decode_tokens_per_s() const noexcept;
  double decode_bytes_per_s() const noexcept;
};

/// Bytes of packed weights that a token meets on its way through the model: all but a quantized table of embeddings
/// that is not the output head too, of which it needs a row.
int64_t weight_bytes_of_a_token(const Model& model);

/// Random prompts (see random_batch) run into a KvCache in pieces as generate() runs them, then random tokens one by
/// one for all sequences at once, logits and their download included. Throws Error where prompts and tokens together
/// are longer than the model's context.
DecoderTiming time_decoder(Session& session, const DecoderLoad& load);

/// Since this process began, to the system's clock tick; 0 where the system does not say.
double milliseconds_since_process_start();

/// Resident memory of this process that is backed by no file, in bytes; 0 where the system does not say.
int64_t anonymous_bytes();

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace octet {

/// A training run as data: a JSON object with these keys, each at its default where it is left out. An unknown key, a
/// value of another type or out of range is a FormatError that names it.
struct TrainConfig {
  std::string task;   ///< one of training_tasks(): "mrpc", "classification", "squad", "lm"…
  std::string model;  ///< a Hugging Face directory with float weights
  std::string data;   ///< the task's folder; or "train_data" and "eval_data" name files
  std::string train_data, eval_data;
  int64_t labels = 0;  ///< of "classification"; 0: as many as the training data has, or the model's head
  /// Tokens of an example; 0: 128 of texts, 384 of questions, 512 of language models (of encoders at most their
  /// longest).
  int64_t max_length = 0;
  int64_t doc_stride = 128;         ///< tokens that windows of one text share ("squad")
  std::string documents = "whole";  ///< how a text is cut into documents ("lm", "mlm"), see Documents
  bool end_of_text = true;          ///< documents end in the tokenizer's eos_token ("lm"), so that it is learned
  double mask_probability = 0.15;   ///< of a token to be masked ("mlm")
  int64_t limit = 0;                ///< use the first training examples only; 0: all
  int64_t eval_limit = 0;           ///< the same of evaluation

  int64_t epochs = 3;
  int64_t max_steps = 0;  ///< of the optimizer; 0: as the epochs say
  int64_t batch_size = 16;
  int64_t gradient_accumulation = 1;    ///< a batch goes through the model in so many parts
  bool gradient_checkpointing = false;  ///< keep each block's input only, and compute the rest again: less memory
  bool shuffle = true;                  ///< each epoch anew; otherwise examples come as they lie in the file
  bool by_length = false;               ///< batches of examples of like length
  bool drop_last = false;               ///< leave out an epoch's last batch if it is not full
  uint64_t seed = 1;

  std::string optimizer = "adamw";  ///< or "sgd"
  double learning_rate = 5e-5;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  ///< of adamw
  double momentum = 0.9;                          ///< of sgd
  double weight_decay = 0.01;                     ///< not of biases and normalizations
  /// What matrices and their moments are stored as: "fp32", "fp16" or "bf16", steps being rounded stochastically.
  std::string weights_dtype = "fp32", moments_dtype = "fp32";
  std::string schedule = "linear";  ///< or "cosine", "constant"
  double warmup_ratio = 0;          ///< share of the steps in which the rate rises
  int64_t warmup_steps = 0;         ///< or their number, where it is not 0
  double max_grad_norm = 1;         ///< gradients are scaled down to this norm; 0: never
  double loss_scale = 1;            ///< see LossScale; 0: dynamic
  std::optional<double> dropout;    ///< of hidden states; none: the model's hidden_dropout_prob or resid_pdrop, or 0
  /// Of attention's weights; none: as `dropout` says, or without it the model's attention_probs_dropout_prob, or 0.
  std::optional<double> attention_dropout;

  /// A directory of a model like the trained one, whose outputs are learned too (knowledge distillation): the loss is
  /// (1 - distill_alpha) · the task's + distill_alpha · the distance from the teacher's. Empty: none.
  std::string teacher;
  double distill_alpha = 0.5;      ///< from 0 to 1
  double distill_temperature = 2;  ///< of logits
  /// Weight of a further term: how far the hidden states that the embedding and each block give are from the teacher's
  /// (see Teacher), as the mean squared difference.
  double distill_hidden = 0;

  /// A recipe's name, file or JSON: layers are quantized in training as it says (quantization-aware training).
  std::string recipe;
  int64_t qat_start = 0;       ///< steps in float before that
  std::string clips = "pact";  ///< how ranges of static activations learn: "pact", "lsq" or "fixed"
  /// The same of weights: "fixed", as the recipe's "range" finds them at each step, or "lsq".
  std::string weight_clips = "fixed";
  double pact_a_lr = 0;              ///< learning rate of clips; 0: learning_rate
  double pact_a_decay = 0;           ///< weight decay of clips
  int64_t calibration_batches = 16;  ///< by which clips are found before the first step
  bool simulate = false;             ///< products of rounded floats instead of integers: to compare

  int64_t eval_steps = 0;        ///< evaluate, and keep a checkpoint, every so many steps; 0: after each epoch
  bool eval_first = false;       ///< evaluate before the first step too
  std::string metric;            ///< chooses the best checkpoint; empty: the task's
  int64_t early_stopping = 0;    ///< stop after so many evaluations without a better one; 0: never
  int64_t keep_checkpoints = 1;  ///< the last ones, besides the best
  int64_t log_steps = 10;
  int64_t histogram_steps = 0;  ///< TensorBoard gets histograms of weights and gradients every so many; 0: never

  /// The config in `text`, `settings` (key=value) applied. `source` names it in errors.
  static TrainConfig parse(std::string_view text, const std::string& source,
                           std::span<const std::string> settings = {});
  static TrainConfig load(const std::string& file, std::span<const std::string> settings);
  /// All keys, with the values that hold: what a run saves beside its result.
  nlohmann::ordered_json to_json() const;
};

}  // namespace octet

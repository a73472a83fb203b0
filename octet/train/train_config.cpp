// SPDX-License-Identifier: Apache-2.0
#include "octet/train/train_config.h"

#include <array>
#include <limits>
#include <variant>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/base/suggest.h"
#include "octet/optim/schedule.h"
#include "octet/train/loss_scale.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr int64_t kLargestConfig = 1 << 20;
constexpr double kAny = std::numeric_limits<double>::max();

// A key, where it goes, and the least and largest number that it may be.
struct Field {
  const char* key;
  std::variant<std::string TrainConfig::*, int64_t TrainConfig::*, uint64_t TrainConfig::*, double TrainConfig::*,
               std::optional<double> TrainConfig::*, bool TrainConfig::*>
      member;
  double least = 0, largest = kAny;
};

constexpr double kMost = 1 << 30;  // of any count

const Field kFields[] = {
    {"task", &TrainConfig::task},
    {"model", &TrainConfig::model},
    {"data", &TrainConfig::data},
    {"train_data", &TrainConfig::train_data},
    {"eval_data", &TrainConfig::eval_data},
    {"labels", &TrainConfig::labels, 0, 1 << 20},
    {"max_length", &TrainConfig::max_length, 0, 1 << 20},
    {"doc_stride", &TrainConfig::doc_stride, 0, 1 << 20},
    {"documents", &TrainConfig::documents},
    {"end_of_text", &TrainConfig::end_of_text},
    {"mask_probability", &TrainConfig::mask_probability, 0, 1},
    {"limit", &TrainConfig::limit, 0, kMost},
    {"eval_limit", &TrainConfig::eval_limit, 0, kMost},
    {"epochs", &TrainConfig::epochs, 1, 1 << 20},
    {"max_steps", &TrainConfig::max_steps, 0, kMost},
    {"batch_size", &TrainConfig::batch_size, 1, 1 << 20},
    {"gradient_accumulation", &TrainConfig::gradient_accumulation, 1, 1 << 14},
    {"gradient_checkpointing", &TrainConfig::gradient_checkpointing},
    {"shuffle", &TrainConfig::shuffle},
    {"by_length", &TrainConfig::by_length},
    {"drop_last", &TrainConfig::drop_last},
    {"seed", &TrainConfig::seed},
    {"optimizer", &TrainConfig::optimizer},
    {"learning_rate", &TrainConfig::learning_rate},
    {"beta1", &TrainConfig::beta1, 0, 1},
    {"beta2", &TrainConfig::beta2, 0, 1},
    {"eps", &TrainConfig::eps},
    {"momentum", &TrainConfig::momentum, 0, 1},
    {"weight_decay", &TrainConfig::weight_decay},
    {"weights_dtype", &TrainConfig::weights_dtype},
    {"moments_dtype", &TrainConfig::moments_dtype},
    {"schedule", &TrainConfig::schedule},
    {"warmup_ratio", &TrainConfig::warmup_ratio, 0, 1},
    {"warmup_steps", &TrainConfig::warmup_steps, 0, kMost},
    {"max_grad_norm", &TrainConfig::max_grad_norm},
    {"loss_scale", &TrainConfig::loss_scale, 0, LossScale::kLargest},
    {"dropout", &TrainConfig::dropout, 0, 0.99},
    {"attention_dropout", &TrainConfig::attention_dropout, 0, 0.99},
    {"teacher", &TrainConfig::teacher},
    {"distill_alpha", &TrainConfig::distill_alpha, 0, 1},
    {"distill_temperature", &TrainConfig::distill_temperature, 1e-3, 1e3},
    {"distill_hidden", &TrainConfig::distill_hidden},
    {"recipe", &TrainConfig::recipe},
    {"qat_start", &TrainConfig::qat_start, 0, kMost},
    {"clips", &TrainConfig::clips},
    {"weight_clips", &TrainConfig::weight_clips},
    {"pact_a_lr", &TrainConfig::pact_a_lr},
    {"pact_a_decay", &TrainConfig::pact_a_decay},
    {"calibration_batches", &TrainConfig::calibration_batches, 1, 1 << 16},
    {"simulate", &TrainConfig::simulate},
    {"eval_steps", &TrainConfig::eval_steps, 0, kMost},
    {"eval_first", &TrainConfig::eval_first},
    {"metric", &TrainConfig::metric},
    {"early_stopping", &TrainConfig::early_stopping, 0, kMost},
    {"keep_checkpoints", &TrainConfig::keep_checkpoints, 1, 1000},
    {"log_steps", &TrainConfig::log_steps, 1, kMost},
    {"histogram_steps", &TrainConfig::histogram_steps, 0, kMost},
};

template <class T>
constexpr bool kWhole = std::is_same_v<T, int64_t> || std::is_same_v<T, uint64_t>;

template <class T>
T read(const json& value, const Field& field, const std::string& where) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string()) return value.get<std::string>();
    fail<FormatError>("{}: '{}' is {}, not a text", where, field.key, quote_json(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
    fail<FormatError>("{}: '{}' is {}, not true or false", where, field.key, quote_json(value));
  } else {
    const bool fits = kWhole<T> ? value.is_number_integer() && (value.is_number_unsigned() || std::is_signed_v<T>)
                                : value.is_number();
    if (!fits)
      fail<FormatError>("{}: '{}' is {}, not a {}number", where, field.key, quote_json(value),
                        kWhole<T> ? "whole " : "");
    const double number = value.get<double>();
    if (!(number >= field.least && number <= field.largest)) {
      fail<FormatError>("{}: '{}' is {}; it may be from {} to {}", where, field.key, quote_json(value), field.least,
                        field.largest == kAny ? "any number" : fmt::format("{}", field.largest));
    }
    return value.get<T>();
  }
}

void set(TrainConfig& config, const Field& field, const json& value, const std::string& where) {
  std::visit(
      [&]<class T>(T TrainConfig::*member) {
        if constexpr (std::is_same_v<T, std::optional<double>>) {
          config.*member = value.is_null() ? std::nullopt : std::optional(read<double>(value, field, where));
        } else {
          config.*member = read<T>(value, field, where);
        }
      },
      field.member);
}

}  // namespace

TrainConfig TrainConfig::parse(std::string_view text, const std::string& source,
                               std::span<const std::string> settings) {
  json all = parse_json(text, source);
  if (!all.is_object()) fail<FormatError>("{}: {} is not a JSON object", source, quote_json(all));
  for (const std::string& setting : settings) apply_setting(all, setting, "learning_rate=3e-5");
  TrainConfig config;
  for (const auto& item : all.items()) {
    const auto field = std::ranges::find(kFields, std::string_view(item.key()),
                                         [](const Field& f) { return std::string_view(f.key); });
    if (field == std::end(kFields)) {
      std::vector<std::string> known;
      for (const Field& f : kFields) known.emplace_back(f.key);
      fail<FormatError>("{}: unknown key {}.{}", source, quote_name(item.key()), did_you_mean(item.key(), known));
    }
    // A recipe may stand in the config as the object that it is.
    const bool inline_recipe = item.key() == "recipe" && item.value().is_object();
    set(config, *field, inline_recipe ? json(json_text(item.value())) : item.value(), source);
  }
  for (const auto& [key, value] :
       {std::pair<const char*, const std::string*>{"task", &config.task}, {"model", &config.model}}) {
    if (value->empty()) fail<UsageError>("{}: '{}' is missing; say it there or by --set {}=…", source, key, key);
  }
  if (config.optimizer != "adamw" && config.optimizer != "sgd") {
    fail<FormatError>("{}: the optimizer '{}' is neither 'adamw' nor 'sgd'", source, config.optimizer);
  }
  parse_decay(config.schedule);
  if (config.clips != "pact" && config.clips != "lsq" && config.clips != "fixed") {
    fail<FormatError>("{}: 'clips' is '{}'; 'pact', 'lsq' and 'fixed' are known", source, config.clips);
  }
  if (config.weight_clips != "fixed" && config.weight_clips != "lsq") {
    fail<FormatError>("{}: 'weight_clips' is '{}'; 'fixed' and 'lsq' are known", source, config.weight_clips);
  }
  for (const auto& [key, value] : {std::pair<const char*, const std::string*>{"weights_dtype", &config.weights_dtype},
                                   {"moments_dtype", &config.moments_dtype}}) {
    if (*value != "fp32" && *value != "fp16" && *value != "bf16")
      fail<FormatError>("{}: '{}' is '{}'; 'fp32', 'fp16' and 'bf16' are known", source, key, *value);
  }
  if (config.weight_clips == "lsq" && config.weights_dtype != "fp32") {
    fail<UsageError>("{}: ranges of weights are learned of fp32 ones; take weights_dtype=fp32, or weight_clips=fixed",
                     source);
  }
  if (config.distill_hidden > 0 && config.teacher.empty())
    fail<UsageError>("{}: 'distill_hidden' needs a 'teacher'", source);
  if (config.gradient_accumulation > config.batch_size) {
    fail<FormatError>("{}: a batch of {} examples cannot be cut into {} parts (gradient_accumulation)", source,
                      config.batch_size, config.gradient_accumulation);
  }
  return config;
}

TrainConfig TrainConfig::load(const std::string& file, std::span<const std::string> settings) {
  return parse(read_text_file(file, kLargestConfig), file, settings);
}

nlohmann::ordered_json TrainConfig::to_json() const {
  nlohmann::ordered_json out;
  for (const Field& field : kFields) {
    std::visit(
        [&]<class T>(T TrainConfig::*member) {
          if constexpr (std::is_same_v<T, std::optional<double>>) {
            out[field.key] = this->*member ? nlohmann::ordered_json(*(this->*member)) : nlohmann::ordered_json();
          } else {
            out[field.key] = this->*member;
          }
        },
        field.member);
  }
  return out;
}

}  // namespace octet

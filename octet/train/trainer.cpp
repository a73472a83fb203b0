// SPDX-License-Identifier: Apache-2.0
#include "octet/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/models/session.h"
#include "octet/optim/schedule.h"
#include "octet/train/data_order.h"
#include "octet/train/quantized_run.h"
#include "octet/train/teacher.h"
#include "octet/train/trained_checkpoint.h"
#include "octet/train/training_log.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

// Dropouts of a pass; those of a batch's other parts come after.
constexpr uint32_t kStreamsPerPart = 1 << 16;

// What the model was trained with at first, by the first of these keys that its config has; 0 where it says nothing.
double usual_dropout(const Config& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (config.has(key)) return config.number(key);
  }
  return 0;
}

bool is_finite(Backend& backend, const Activation& x) {
  std::vector<float> values(static_cast<size_t>(x.rows * x.cols));
  backend.download(x, values);
  return !first_not_finite(values);
}

Recipe load_recipe(const std::string& text) {
  return text.starts_with('{') ? Recipe::parse(text, "of the config") : Recipe::load(text, {});
}

QuantizedTraining quantized_training(const TrainConfig& config) {
  using Clips = QuantizedTraining::Clips;
  return {.clips = config.clips == "pact"  ? Clips::kPact
                   : config.clips == "lsq" ? Clips::kLsq
                                           : Clips::kFixed,
          .learns_weight_clips = config.weight_clips == "lsq",
          .simulated = config.simulate};
}

DType dtype_called(const std::string& name) {
  return name == "fp16" ? DType::kF16 : name == "bf16" ? DType::kBF16 : DType::kF32;
}

// Whether the folder's run is this one. Keys that it does not have are newer than it: it has run by their defaults.
void check_same_config(const RunFolder& folder, const TrainConfig& config) {
  const nlohmann::ordered_json found = TrainConfig::load(folder.config().string(), {}).to_json();
  const nlohmann::ordered_json asked = config.to_json();
  for (const auto& item : asked.items()) {
    if (found.at(item.key()) == item.value()) continue;
    fail<UsageError>("{}: its run has another '{}' ({} there, {} here); resume it as it was, or give another --out",
                     folder.path().string(), item.key(), json_text(found.at(item.key())), json_text(item.value()));
  }
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, const TrainingTask& task, const TrainOptions& options)
      : config_(config),
        task_(task),
        options_(options),
        folder_(options.out),
        backend_(make_cpu_backend(options.cpu)),
        workspace_(*backend_),
        kept_(*backend_) {
    if (task.examples() == 0) fail<FormatError>("the task '{}' has no training examples", config.task);
    order_ = {.examples = task.examples(),
              .batch_size = config.batch_size,
              .seed = config.seed,
              .shuffled = config.shuffle,
              .by_length = config.by_length,
              .drop_last = config.drop_last};
    if (order_.batches() == 0) {
      fail<UsageError>("{} examples make no batch of {}; take a smaller one, or drop_last=false", order_.examples,
                       order_.batch_size);
    }
    steps_ = config.max_steps > 0 ? config.max_steps : config.epochs * order_.batches();
    schedule_ = {.rate = config.learning_rate,
                 .warm_up = config.warmup_steps > 0
                                ? config.warmup_steps
                                : static_cast<int64_t>(config.warmup_ratio * static_cast<double>(steps_)),
                 .total = steps_,
                 .decay = parse_decay(config.schedule)};
    begin();
    load_model_at(folder_.steps().back());
    const Config& of_model = source_->config();
    dropout_ = config.dropout.value_or(
        usual_dropout(of_model, {"hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "dropout"}));
    attention_dropout_ = config.attention_dropout.value_or(config.dropout.value_or(
        usual_dropout(of_model, {"attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"})));
    if (!config.teacher.empty()) {
      teacher_.emplace(config.teacher, model_->info(),
                       DistillOptions{.alpha = config.distill_alpha,
                                      .temperature = config.distill_temperature,
                                      .hidden = config.distill_hidden},
                       options.cpu);
    }
    report_.metric = config.metric.empty() ? task.metric() : config.metric;
  }

  TrainReport run() {
    log_.emplace(folder_.path(), std::vector<std::string>{"epoch", "loss", "learning_rate", "gradient_norm", "tokens"},
                 options_.resume ? std::optional(progress_.step) : std::nullopt);
    for (const std::string& note : task_.notes()) options_.note(note);
    const bool evaluated = !progress_.evaluations.empty() && progress_.evaluations.back().step == progress_.step;
    if (!evaluated && (progress_.step > 0 || config_.eval_first)) evaluate();
    const auto start = Clock::now();
    double evaluating = 0;
    std::vector<std::vector<size_t>> batches;
    int64_t epoch = -1;
    while (progress_.step < steps_ && !stops_early()) {
      if (const int64_t now = progress_.step / order_.batches(); now != epoch) {
        epoch = now;
        batches = order_.epoch(epoch, [&](size_t example) { return task_.tokens(example); });
      }
      if (quantizes_from(progress_.step)) begin_quantized();
      step(batches[static_cast<size_t>(progress_.step % order_.batches())]);
      const bool at_end = progress_.step == steps_;
      const int64_t every = config_.eval_steps > 0 ? config_.eval_steps : order_.batches();
      if (!at_end && progress_.step % every != 0 && !quantizes_from(progress_.step)) continue;
      const auto before = Clock::now();
      log_->flush();
      save();
      evaluate();
      source_.emplace(Checkpoint::open(folder_.checkpoint(progress_.step)));
      evaluating += std::chrono::duration<double>(Clock::now() - before).count();
    }
    log_->flush();
    report_.seconds = std::chrono::duration<double>(Clock::now() - start).count() - evaluating;
    report_.steps = progress_.step;
    report_.stopped_early = progress_.step < steps_;
    report_.evaluations = progress_.evaluations;
    report_.best_step = progress_.best_step;
    report_.best_value = progress_.best_value;
    report_.activation_bytes = kept_.bytes() + workspace_.bytes();
    return report_;
  }

 private:
  // A new folder with the model that the run starts from as its first checkpoint, or the one that is to be resumed.
  void begin() {
    namespace fs = std::filesystem;
    if (fs::exists(folder_.path()) && !fs::is_empty(folder_.path())) {
      if (!fs::exists(folder_.config()))
        fail<UsageError>("{}: exists and is no training run; give another --out", folder_.path().string());
      if (!options_.resume) {
        fail<UsageError>("{}: holds a run already; --resume goes on with it, or give another --out",
                         folder_.path().string());
      }
      check_same_config(folder_, config_);
      folder_.tidy(config_.keep_checkpoints);
    }
    std::optional<Recipe> recipe;
    if (!config_.recipe.empty()) check_trainable(recipe.emplace(load_recipe(config_.recipe)));
    if (folder_.steps().empty()) {
      fs::create_directories(folder_.path());
      OutputFile file(folder_.config());
      file.write(json_text(config_.to_json(), 2) + "\n");
      file.commit();
      make_first_checkpoint();
    }
    const fs::path last = folder_.checkpoint(folder_.steps().back());
    if (recipe && config_.qat_start == 0 && !fs::exists(last / kTrainedRecipe))
      write_recipe(last / kTrainedRecipe, calibrate(*recipe, folder_.checkpoint(0)));
  }

  void make_first_checkpoint() const {
    const Checkpoint checkpoint = Checkpoint::open(config_.model);
    if (const TaskHead head = task_.head(); head.kind != TaskHead::Kind::kAsItIs) {
      const std::vector<std::string> made = write_with_head(checkpoint, head, config_.seed, folder_.checkpoint(0));
      for (const std::string& layer : made)
        options_.note(fmt::format("'{}' is new: its weights are drawn by the seed", layer));
    } else {
      const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
      Trainables values(*backend_, {}, dtype_called(config_.weights_dtype));
      model->train(values);
      ResumableDirectory directory(folder_.checkpoint(0), "training");
      write_trained(checkpoint, values, directory.path());
      directory.commit();
    }
  }

  // The first batches of the first epoch find the ranges that training starts from.
  Recipe calibrate(const Recipe& recipe, const std::filesystem::path& weights) const {
    TokenBatch samples;
    const auto batches = order_.epoch(0, [&](size_t example) { return task_.tokens(example); });
    for (size_t i = 0; i < batches.size() && i < static_cast<size_t>(config_.calibration_batches); ++i) {
      const TokenBatch batch = task_.batch(batches[i], 0).tokens;
      for (int64_t b = 0; b < batch.sequences(); ++b) {
        const auto first = static_cast<size_t>(batch.offsets[static_cast<size_t>(b)]);
        const auto count = static_cast<size_t>(batch.offsets[static_cast<size_t>(b) + 1]) - first;
        samples.add(std::span(batch.ids).subspan(first, count), std::span(batch.type_ids).subspan(first, count));
      }
    }
    return calibrated(Checkpoint::open(weights), recipe, samples, options_.cpu, folder_.path() / "calibration");
  }

  void load_model_at(int64_t step) {
    source_.emplace(Checkpoint::open(folder_.checkpoint(step)));
    const std::filesystem::path recipe = folder_.checkpoint(step) / kTrainedRecipe;
    if (std::filesystem::exists(recipe)) recipe_ = Recipe::load(recipe.string(), {});
    make_model();
    const LossScale scale = config_.loss_scale > 0 ? LossScale(config_.loss_scale) : LossScale::dynamic();
    progress_ = folder_.load(step, scale, *trainables_, *optimizer_);
    model_->lay_out_trained(*backend_);  // by the clips that were loaded
    if (progress_.step > 0) report_.resumed_from = progress_.step;
    for (const auto& trainable : trainables_->all()) report_.parameters += trainable->elements();
  }

  // Of source_, by recipe_; with an optimizer that knows nothing yet.
  void make_model() {
    optimizer_.reset();
    model_.reset();
    trainables_.emplace(*backend_, quantized_training(config_), dtype_called(config_.weights_dtype));
    model_ = load_model(*source_, recipe_ ? &*recipe_ : nullptr);
    model_->train(*trainables_);
    const ClipOptions clips{.rate_factor = config_.pact_a_lr > 0 ? config_.pact_a_lr / config_.learning_rate : 1,
                            .decay = config_.pact_a_decay};
    const MomentOptions moments{.dtype = dtype_called(config_.moments_dtype), .seed = config_.seed};
    optimizer_ = config_.optimizer == "sgd" ? make_sgd(*trainables_, {.momentum = config_.momentum,
                                                                      .weight_decay = config_.weight_decay,
                                                                      .clips = clips,
                                                                      .moments = moments})
                                            : make_adamw(*trainables_, {.beta1 = config_.beta1,
                                                                        .beta2 = config_.beta2,
                                                                        .eps = config_.eps,
                                                                        .weight_decay = config_.weight_decay,
                                                                        .clips = clips,
                                                                        .moments = moments});
  }

  bool quantizes_from(int64_t step) const {
    return !config_.recipe.empty() && config_.qat_start > 0 && step == config_.qat_start;
  }

  // The step's checkpoint, which is there, goes on as a quantized model; what the optimizer knows stays.
  void begin_quantized() {
    std::map<std::pair<std::string, std::string>, std::vector<std::byte>> known;
    const auto key = [&](const Optimizer::State& state) {
      return std::pair(state.name, trainables_->all()[state.parameter]->parts().front().tensor);
    };
    for (const Optimizer::State& state : optimizer_->states()) {
      std::vector<std::byte>& values = known[key(state)];
      values.resize(static_cast<size_t>(state.memory.bytes()));
      backend_->download(state.memory, values);
    }
    recipe_ = calibrate(load_recipe(config_.recipe), folder_.checkpoint(progress_.step));
    make_model();
    for (const Optimizer::State& state : optimizer_->states()) {
      if (const auto found = known.find(key(state)); found != known.end())
        backend_->upload(found->second, state.memory);
    }
    optimizer_->set_steps(progress_.step);
    model_->lay_out_trained(*backend_);
    progress_.best_step = -1;  // the best of the quantized ones is looked for
    progress_.since_best = 0;
    options_.note(fmt::format("from step {} on layers are quantized ('{}')", progress_.step, recipe_->name()));
  }

  void step(const std::vector<size_t>& examples) {
    std::vector<LabelledBatch> parts;
    int64_t terms = 0, tokens = 0;
    const auto count = std::ssize(examples);
    const int64_t wanted = std::min<int64_t>(config_.gradient_accumulation, count);
    for (int64_t part = 0; part < wanted; ++part) {
      const int64_t first = part * count / wanted, last = (part + 1) * count / wanted;
      parts.push_back(task_.batch(
          std::span(examples).subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)), progress_.step));
      if (model_->info().output == OutputKind::kTokenLogits) parts.back().leave_out_unlabelled();
      terms += parts.back().terms(task_.loss());
      tokens += parts.back().tokens.tokens();
    }
    if (terms == 0) fail<FormatError>("a batch has no labels");
    double loss = 0, norm = 0;
    LossScale& scale = progress_.loss_scale;
    for (bool finite = false; !finite;) {
      for (const auto& trainable : trainables_->all()) trainable->zero_gradient(*backend_);
      loss = 0;
      for (size_t part = 0; part < parts.size(); ++part)
        loss += backpropagate(parts[part], part, static_cast<double>(terms), static_cast<double>(tokens));
      loss /= static_cast<double>(terms);
      trainables_->complete_gradients();
      norm = gradient_norm(*trainables_) / scale.value();
      finite = std::isfinite(loss) && std::isfinite(norm);
      if (!finite && (!std::isfinite(loss) || !scale.shrink())) fail_not_finite(parts, loss);
    }
    const double factor = config_.max_grad_norm > 0 && norm > config_.max_grad_norm ? config_.max_grad_norm / norm : 1;
    const double rate = schedule_.at(progress_.step);
    if (config_.histogram_steps > 0 && (progress_.step + 1) % config_.histogram_steps == 0) log_histograms();
    optimizer_->step(rate, factor / scale.value());
    scale.grow();
    model_->lay_out_trained(*backend_);
    ++progress_.step;
    report_.tokens += tokens;
    const TrainingStep done{.step = progress_.step,
                            .steps = steps_,
                            .epoch = epoch(),
                            .loss = loss,
                            .gradient_norm = norm,
                            .learning_rate = rate,
                            .tokens = tokens};
    if (progress_.step % config_.log_steps == 0 || progress_.step == steps_) {
      log_->record(done.step, {{"epoch", done.epoch},
                               {"loss", loss},
                               {"learning_rate", rate},
                               {"gradient_norm", norm},
                               {"tokens", static_cast<double>(tokens)}});
      if (scale.is_dynamic()) log_->scalar("loss_scale", done.step, scale.value());
      log_clips();
    }
    options_.after_step(done);
  }

  void log_clips() {
    for (const auto& trainable : trainables_->all()) {
      if (!trainable->is_clip()) continue;
      const std::vector<float> ends = trainable->download(*backend_);
      for (const TrainedRows& part : trainable->parts()) {
        const std::span<const float> own = trainable->own(part, ends);
        const double sum = std::accumulate(own.begin(), own.end(), 0.0);
        log_->scalar("clips/" + part.tensor, progress_.step, sum / static_cast<double>(own.size()));
      }
    }
  }

  // What the step that comes reads.
  void log_histograms() {
    std::vector<float> gradient;
    for (const auto& trainable : trainables_->all()) {
      const std::vector<float> values = trainable->download(*backend_);
      gradient.resize(values.size());
      backend_->download(trainable->gradient(), gradient);
      for (float& value : gradient) value /= static_cast<float>(progress_.loss_scale.value());
      for (const TrainedRows& part : trainable->parts()) {
        log_->histogram("weights/" + part.tensor, progress_.step + 1, trainable->own(part, values));
        log_->histogram("gradients/" + part.tensor, progress_.step + 1, trainable->own(part, gradient));
      }
    }
  }

  // The sum of a part's losses, whose gradients are added, of a batch of so many terms and tokens.
  double backpropagate(const LabelledBatch& batch, size_t part, double terms, double tokens) {
    const double scale = progress_.loss_scale.value();
    const auto factor = static_cast<float>(scale / terms);
    Context context{*backend_, workspace_};
    Training training{.context = context,
                      .kept = kept_,
                      .dropout = static_cast<float>(dropout_),
                      .attention_dropout = static_cast<float>(attention_dropout_),
                      .seed = config_.seed,
                      .step = static_cast<uint32_t>(progress_.step),
                      .streams = static_cast<uint32_t>(part) * kStreamsPerPart,
                      .recomputes_blocks = config_.gradient_checkpointing,
                      .output_rows = batch.rows};
    const Workspace::Scope kept(kept_), scope(workspace_);
    const DeviceBatch on_device = upload(context, batch.tokens);
    if (teacher_) teacher_->look_at(training, batch.tokens, static_cast<float>(scale / tokens));
    const std::unique_ptr<TrainingPass> pass = model_->forward(training, on_device);
    const double loss = teacher_ ? teacher_->apply(context, task_.loss(), batch, factor, pass->output) +
                                       teacher_->of_hidden() * terms / tokens
                                 : apply_loss(context, task_.loss(), batch, factor, pass->output);
    model_->backward(training, on_device, *pass, pass->output);
    return loss;
  }

  // Where NaN or infinity came up: which piece of the forward pass gives it first, or else whose gradient has it.
  [[noreturn]] void fail_not_finite(const std::vector<LabelledBatch>& parts, double loss) {
    std::string where;
    Context context{*backend_, workspace_};
    for (size_t part = 0; part < parts.size() && where.empty(); ++part) {
      const Workspace::Scope scope(workspace_);
      const DeviceBatch batch = upload(context, parts[part].tokens);
      const Activation x = model_->embed(context, batch);
      if (!is_finite(*backend_, x)) where = "the embeddings give it first";
      for (int64_t block = 0; block < model_->info().blocks && where.empty(); ++block) {
        model_->run_block(context, block, batch, x);
        if (!is_finite(*backend_, x)) where = fmt::format("block {} gives it first", block);
      }
    }
    if (where.empty() && !std::isfinite(loss)) where = "the head gives it";
    for (auto it = trainables_->all().rbegin(); it != trainables_->all().rend() && where.empty(); ++it) {
      if (!is_finite(*backend_, (*it)->gradient()))
        where = fmt::format("the gradient of '{}' has it first", (*it)->parts().front().tensor);
    }
    fail<NumericError>(
        "step {}: {} is not finite; {}. The last checkpoint is {}. A lower learning_rate, more warmup_ratio or a "
        "smaller max_grad_norm may help.",
        progress_.step + 1, std::isfinite(loss) ? "the gradient" : "the loss", where,
        folder_.checkpoint(folder_.steps().back()).string());
  }

  void save() const {
    std::optional<Recipe> recipe;
    if (recipe_) recipe = with_ranges_of(*model_, *recipe_, trainables_->quantized());
    folder_.save(*source_, *trainables_, *optimizer_, progress_, recipe ? &*recipe : nullptr);
  }

  double epoch() const { return static_cast<double>(progress_.step) / static_cast<double>(order_.batches()); }

  bool stops_early() const { return config_.early_stopping > 0 && progress_.since_best >= config_.early_stopping; }

  // Judges the checkpoint of this step, which was just written: a run that is killed meanwhile does it again.
  void evaluate() {
    const std::filesystem::path folder = folder_.checkpoint(progress_.step);
    LoadOptions options{.cpu = options_.cpu};
    if (recipe_) options.recipe = Recipe::load((folder / kTrainedRecipe).string(), {});
    Session session(folder, options);
    const TaskResult result = task_.evaluate(session);
    Evaluation evaluation{.step = progress_.step, .epoch = epoch(), .metrics = {}};
    std::optional<double> value;
    std::string known;
    for (const TaskResult::Metric& metric : result.metrics) {
      evaluation.metrics.emplace_back(metric.name, metric.value);
      log_->scalar("eval/" + metric.name, progress_.step, metric.value);
      known += (known.empty() ? "" : ", ") + metric.name;
      if (metric.name == report_.metric) value = metric.value;
    }
    if (!value) fail<UsageError>("the task '{}' has no metric '{}'; it has {}", config_.task, report_.metric, known);
    const bool lower = lower_is_better(report_.metric);
    const bool best =
        progress_.best_step < 0 || (lower ? *value < progress_.best_value : *value > progress_.best_value);
    progress_.evaluations.push_back(evaluation);
    if (best) {
      progress_.best_step = progress_.step;
      progress_.best_value = *value;
      progress_.since_best = 0;
      folder_.make_best(progress_.step);
    } else {
      ++progress_.since_best;
    }
    folder_.save_progress(progress_, *trainables_);
    folder_.tidy(config_.keep_checkpoints);
    options_.after_evaluation(evaluation, best);
  }

  const TrainConfig& config_;
  const TrainingTask& task_;
  const TrainOptions& options_;
  RunFolder folder_;
  std::unique_ptr<Backend> backend_;
  Workspace workspace_, kept_;
  std::optional<Trainables> trainables_;
  std::optional<Checkpoint> source_;
  std::optional<Recipe> recipe_;  // none: trained in float
  std::unique_ptr<Model> model_;
  std::optional<Teacher> teacher_;
  std::unique_ptr<Optimizer> optimizer_;
  DataOrder order_;
  Schedule schedule_;
  int64_t steps_ = 0;
  double dropout_ = 0, attention_dropout_ = 0;
  TrainingProgress progress_;
  std::optional<TrainingLog> log_;
  TrainReport report_;
};

}  // namespace

TrainReport train(const TrainConfig& config, const TrainingTask& task, const TrainOptions& options) {
  return Trainer(config, task, options).run();
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/train/training_checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <stdio.h>
#include <unistd.h>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/io/config.h"
#include "octet/io/safetensors.h"
#include "octet/train/quantized_run.h"
#include "octet/train/trained_checkpoint.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "training_state.json";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr std::string_view kCheckpoint = "checkpoint-";
// Folders on their way out, or in: no checkpoint's name begins with a dot.
constexpr const char* kRemoved = ".removed";
constexpr const char* kNewBest = ".best";

std::string tensor_name(const Optimizer::State& state) { return fmt::format("{}.{}", state.name, state.parameter); }

std::string clip_name(size_t parameter) { return fmt::format("clip.{}", parameter); }

// What tells whether a state belongs to these parameters.
nlohmann::json parameters_json(const Trainables& trained) {
  nlohmann::json out = nlohmann::json::array();
  for (const auto& trainable : trained.all()) {
    out.push_back(
        {trainable->parts().empty() ? "" : trainable->parts().front().tensor, trainable->rows(), trainable->cols()});
  }
  return out;
}

nlohmann::json to_json(const TrainingProgress& progress, const Trainables& trained) {
  nlohmann::json evaluations = nlohmann::json::array();
  for (const Evaluation& evaluation : progress.evaluations) {
    nlohmann::json metrics = nlohmann::json::array();
    for (const auto& [name, value] : evaluation.metrics) metrics.push_back({name, value});
    evaluations.push_back({{"step", evaluation.step}, {"epoch", evaluation.epoch}, {"metrics", std::move(metrics)}});
  }
  return {{"step", progress.step},
          {"best_step", progress.best_step},
          {"best_value", progress.best_value},
          {"since_best", progress.since_best},
          {"loss_scale", progress.loss_scale.value()},
          {"loss_scale_steps", progress.loss_scale.steps()},
          {"evaluations", std::move(evaluations)},
          {"parameters", parameters_json(trained)}};
}

void write_text(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

fs::path RunFolder::checkpoint(int64_t step) const { return folder_ / fmt::format("{}{}", kCheckpoint, step); }

std::vector<int64_t> RunFolder::steps() const {
  std::vector<int64_t> out;
  if (!fs::is_directory(folder_)) return out;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || !name.starts_with(kCheckpoint)) continue;
    int64_t step = 0;
    const char* const begin = name.data() + kCheckpoint.size();
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), step);
    if (error == std::errc() && end == name.data() + name.size() && step >= 0) out.push_back(step);
  }
  std::ranges::sort(out);
  return out;
}

void RunFolder::save(const Checkpoint& source, const Trainables& trained, const Optimizer& optimizer,
                     const TrainingProgress& progress, const Recipe* recipe) const {
  ResumableDirectory directory(checkpoint(progress.step), "training");
  // Ours first: what lies beside the source's weights is copied only where nothing has its name.
  write_text(directory.path() / kState, json_text(to_json(progress, trained), 1) + "\n");
  if (recipe != nullptr) write_recipe(directory.path() / kTrainedRecipe, *recipe);
  SafetensorsWriter writer;
  for (size_t i = 0; i < trained.all().size(); ++i) {
    if (!trained.all()[i]->is_clip()) continue;
    const std::vector<float> ends = trained.all()[i]->download(trained.backend());
    Tensor clip(DType::kF32, {std::ssize(ends)});
    std::ranges::copy(ends, clip.mutable_as<float>().begin());
    writer.add(clip_name(i), std::move(clip));
  }
  for (const Optimizer::State& state : optimizer.states()) {
    const Shape shape{trained.all()[state.parameter]->elements()};
    writer.add(
        {.name = tensor_name(state), .dtype = state.dtype, .shape = shape, .make = [&trained, state, shape] {
           Tensor tensor(state.dtype, shape);
           trained.backend().download(state.memory, {tensor.mutable_view().data, static_cast<size_t>(tensor.bytes())});
           return tensor;
         }});
  }
  writer.write(directory.path() / kOptimizer);
  write_trained(source, trained, directory.path());
  directory.commit();
}

TrainingProgress RunFolder::load(int64_t step, const LossScale& first, const Trainables& trained,
                                 Optimizer& optimizer) const {
  const fs::path folder = checkpoint(step), state_file = folder / kState;
  TrainingProgress out;
  out.loss_scale = first;
  if (step == 0 && !fs::exists(state_file)) return out;  // the model that the run starts from, not judged yet
  const Config state = Config::read(state_file);
  out.step = state.integer("step", {0, int64_t{1} << 40});
  out.best_step = state.integer("best_step", {-1, int64_t{1} << 40});
  out.best_value = state.number("best_value");
  out.since_best = state.integer("since_best", {0, int64_t{1} << 40});
  if (state.has("loss_scale") && out.loss_scale.is_dynamic()) {
    const double scale = state.number("loss_scale");
    if (scale < 1 || scale > LossScale::kLargest)
      fail<FormatError>("{}: 'loss_scale' is {}", state_file.string(), scale);
    out.loss_scale = LossScale::dynamic(scale, state.integer("loss_scale_steps", {0, LossScale::kStepsUntilDoubled}));
  }
  if (!state.has("parameters") || state.json()["parameters"] != parameters_json(trained)) {
    fail<FormatError>("{}: the state is of other parameters than this model's; it cannot be resumed with this config",
                      state_file.string());
  }
  try {
    for (const nlohmann::json& entry : state.json().at("evaluations")) {
      Evaluation& evaluation = out.evaluations.emplace_back();
      evaluation.step = entry.at("step").get<int64_t>();
      evaluation.epoch = entry.at("epoch").get<double>();
      for (const nlohmann::json& metric : entry.at("metrics"))
        evaluation.metrics.emplace_back(metric.at(0).get<std::string>(), metric.at(1).get<double>());
    }
  } catch (const nlohmann::json::exception&) {
    fail<FormatError>("{}: 'evaluations' is damaged", state_file.string());
  }
  if (step == 0) return out;
  const SafetensorsFile moments = SafetensorsFile::open(folder / kOptimizer);
  const std::vector<Optimizer::State> states = optimizer.states();
  std::vector<size_t> clips;
  for (size_t i = 0; i < trained.all().size(); ++i) {
    if (trained.all()[i]->is_clip()) clips.push_back(i);
  }
  if (moments.names().size() != states.size() + clips.size()) {
    fail<FormatError>("{}: holds {} vectors; this optimizer has {}. Was it trained with another?",
                      moments.path().string(), moments.names().size(), states.size() + clips.size());
  }
  for (const size_t i : clips) {
    const Tensor value = moments.tensor(clip_name(i));
    if (value.dtype() != DType::kF32 || value.shape() != Shape{trained.all()[i]->elements()})
      fail<FormatError>("{}: '{}' is no clip", moments.path().string(), clip_name(i));
    trained.all()[i]->upload(trained.backend(), value.as<float>());
  }
  for (const Optimizer::State& memory : states) {
    const Tensor values = moments.tensor(tensor_name(memory));
    if (values.dtype() != memory.dtype || values.bytes() != memory.memory.bytes()) {
      fail<FormatError>("{}: '{}' is {} bytes of {}; the parameter needs {} of {}", moments.path().string(),
                        tensor_name(memory), values.bytes(), name(values.dtype()), memory.memory.bytes(),
                        name(memory.dtype));
    }
    trained.backend().upload({values.view().data, static_cast<size_t>(values.bytes())}, memory.memory);
  }
  optimizer.set_steps(out.step);
  return out;
}

void RunFolder::save_progress(const TrainingProgress& progress, const Trainables& trained) const {
  write_text(checkpoint(progress.step) / kState, json_text(to_json(progress, trained), 1) + "\n");
}

void RunFolder::remove(const fs::path& path) const {
  const fs::path aside = folder_ / (kRemoved + path.filename().string());
  fs::remove_all(aside);
  fs::rename(path, aside);
  fs::remove_all(aside);
}

void RunFolder::make_best(int64_t step) const {
  const fs::path made = folder_ / kNewBest;
  fs::remove_all(made);
  fs::create_directory(made);
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoint(step))) {
    const fs::path name = entry.path().filename();
    if (name == kState || name == kOptimizer) continue;
    if (entry.is_directory()) {
      fs::copy(entry.path(), made / name, fs::copy_options::recursive);
      continue;
    }
    // Files are never changed once they are there: a second name costs nothing.
    std::error_code error;
    fs::create_hard_link(entry.path(), made / name, error);
    if (error) fs::copy_file(entry.path(), made / name);
  }
  if (!fs::exists(best())) {
    fs::rename(made, best());
    return;
  }
  // The two change places at once: there is a best model at any moment.
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, best().c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) fail("{}: cannot be replaced: {}", best().string(), std::strerror(errno));
    remove(best());  // a file system without that
    fs::rename(made, best());
    return;
  }
  fs::remove_all(made);
}

void RunFolder::tidy(int64_t keep) const {
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with(kRemoved)) left.push_back(entry.path());
  }
  for (const fs::path& path : left) fs::remove_all(path);
  const std::vector<int64_t> all = steps();
  for (int64_t i = 0; i + keep < std::ssize(all); ++i) remove(checkpoint(all[static_cast<size_t>(i)]));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "octet/data/glue.h"
#include "octet/data/labelled_texts.h"
#include "octet/data/squad.h"
#include "octet/eval/text_windows.h"
#include "octet/models/session.h"

namespace octet {

/// What a task measured: metrics by their names in snake case, in the order to show them, and how much was measured.
struct TaskResult {
  struct Metric {
    std::string name;
    double value = 0;
    std::optional<double> standard_error = {};
  };

  std::vector<Metric> metrics;
  std::vector<std::pair<std::string, int64_t>> counts = {};  ///< of what was measured, besides the examples
  int64_t examples = 0;
  std::vector<std::string> notes;  ///< what a reader must know: truncated inputs, a pooling that was assumed
  /// What the model said of each example, in their order: a JSON object each, "label" what is right and "predicted"
  /// what it chose where the task has those. None of Task::Data::kText.
  std::vector<std::string> predictions = {};
};

struct TaskInput {
  std::filesystem::path model, data;
  std::optional<int64_t> limit = {};  ///< use the first examples only (see WindowOptions::limit for windows of a text)
  WindowOptions windows = {};         ///< of tasks that read a text
  std::optional<int64_t> overlap = {};  ///< SpanOptions::stride; none: a third of the window
  ColumnNames columns = {};             ///< of tasks that read labelled texts
  double mask_probability = 0.15;       ///< of the task mlm
  int threads = 0;                      ///< for work outside the model; 0: all
  std::function<void(int64_t done, int64_t total)> advance = [](int64_t, int64_t) {};
};

/// An evaluation that `octet eval --task NAME` offers.
struct Task {
  enum class Data {
    kPairs,  ///< a file of sentence pairs
    kTexts,  ///< a file of labelled texts, or a folder of one
    kText,   ///< a text, in windows
    kLines,  ///< a JSON object a line
    kSpans,  ///< a file of questions with answers in a context
  };

  std::string name;
  std::string description;  ///< one line, for --help: what is measured on which files
  Data data = Data::kPairs;
  std::string examples;  ///< what TaskResult::examples counts: "pairs"
  std::function<TaskResult(Session& session, const TaskInput& input)> run;
};

/// All of them. A new task is a function and a line in task.cpp.
std::span<const Task> tasks();

/// Throws UsageError, with the nearest name, for one that is not there.
const Task& find_task(const std::string& name);

/// Cosine of sentence vectors. Graded pairs: pearson, spearman; labelled pairs: accuracy and f1, each at its best
/// threshold, and auc. Files as read_sentence_pairs takes them.
TaskResult run_similarity(Session& session, const TaskInput& input);

/// The share of `count` outcomes that are right, with its standard error (divisor n - 1) where there are two or more.
TaskResult::Metric share_metric(const std::string& name, double share, size_t count);

/// Lines of TaskResult::predictions, of classes or of grades.
std::vector<std::string> prediction_lines(std::span<const int64_t> labels, std::span<const int64_t> predicted);
std::vector<std::string> prediction_lines(std::span<const double> labels, std::span<const double> predicted);

/// A model with a head over labels classifies texts, or pairs of them: accuracy and its standard error, f1 of class 1
/// where there are two, matthews; or with one output predicts grades: pearson, spearman. Files as read_labelled_texts
/// takes them. A label is a class's number, or its name in config.json's id2label, or where that has none: entailment,
/// not_entailment; entailment, neutral, contradiction.
TaskResult run_classification(Session& session, const TaskInput& input);

/// A task of GLUE (see octet/data/glue.h) by a model with a head of as many outputs: its metrics, on the file that
/// input.data is or on those for validation in the folder that it is; there, where MNLI has two, those of the second
/// under names that end in "_mismatched".
TaskResult run_glue(const GlueTask& task, Session& session, const TaskInput& input);

/// Answers to the questions of SQuAD 1.1 (see octet/data/squad.h) by a model with a head for spans: f1 and exact_match
/// as its evaluation script counts them, as shares of 1, with their standard errors. Windows of windows.window tokens,
/// 384 where it is not given, or the model's longest if that is less.
TaskResult run_squad(Session& session, const TaskInput& input);
/// The metrics of given answers; the first is the one by which a checkpoint is chosen.
std::vector<TaskResult::Metric> squad_metrics(const std::vector<SquadQuestion>& questions,
                                              std::span<const std::string> answers);

/// Perplexity of a decoder per token, word and byte, and bits per byte, each with its standard error (see NllSums), on
/// the windows of a text (see TextWindows).
TaskResult run_perplexity(Session& session, const TaskInput& input);

/// An encoder with such a head finds the tokens that are masked in a text (see TokenMask), always the same ones: loss,
/// the mean of their negative log-likelihoods, pseudo_perplexity, e to that, and accuracy, with their standard errors.
/// Windows as TokenWindows cuts them, of windows.window tokens, 512 where it is not given, or the model's longest if
/// that is less. The data may also be a file of tokens (octet prepare).
TaskResult run_masked_language(Session& session, const TaskInput& input);

/// A decoder answers questions by the log-likelihood of each choice after the context (a space between them where
/// neither has white space there): accuracy of the most likely, and of the most likely a byte of the choice, each with
/// its standard error. Files as read_multiple_choice takes them, tokens as tokenize_continuations makes them.
TaskResult run_multiple_choice(Session& session, const TaskInput& input);

/// A decoder predicts the last word of texts from what is before it (LAMBADA: Paperno et al., 2016): accuracy, where
/// each of its tokens must be the most likely one, and the perplexity of the word as a whole, e to the mean of its
/// negative log-likelihood, with their standard errors. Files as read_passages takes them.
TaskResult run_last_word(Session& session, const TaskInput& input);

}  // namespace octet

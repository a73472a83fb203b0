// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdio>

#include <fmt/format.h>

#include "apps/octet/beam_group.h"
#include "apps/octet/chat_prompt.h"
#include "apps/octet/commands.h"
#include "apps/octet/continued_text.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/draft_group.h"
#include "apps/octet/options.h"
#include "apps/octet/sampling_group.h"
#include "octet/base/error.h"
#include "octet/data/lines.h"
#include "octet/generate/generation_config.h"
#include "octet/generate/generator.h"
#include "octet/generate/stop_strings.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct GenerateCommandOptions : ModelOptions {
  std::optional<std::string> prompt, prompt_file;
  std::string kv_dtype;
  bool ignore_eos = false, chat = false;
  ChatPromptOptions chat_prompt;
  SamplingGroup sampling;
  DraftGroup draft;
  BeamGroup beams;
  GenerateOptions generate;
};

std::vector<std::string> read_prompts(const GenerateCommandOptions& options) {
  if (options.prompt) return {*options.prompt};
  if (!options.prompt_file) fail<UsageError>("no prompt: give --prompt TEXT or --prompt-file FILE");
  std::vector<std::string> prompts = read_lines(*options.prompt_file);
  std::erase(prompts, "");
  if (prompts.empty()) fail("{}: holds no prompt", *options.prompt_file);
  return prompts;
}

std::vector<std::vector<int32_t>> tokenize(const Tokenizer& tokenizer, const std::vector<std::string>& prompts) {
  std::vector<std::vector<int32_t>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer.encode(prompt).ids);
    if (ids.back().empty())
      fail("the prompt is empty, and this model's tokenizer puts no token before a text. Give it some text.");
  }
  return ids;
}

// Each prompt as what a person says to the model.
std::vector<std::vector<int32_t>> tokenize_as_messages(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                                       const std::optional<std::string>& system,
                                                       const std::vector<std::string>& prompts) {
  std::vector<std::vector<int32_t>> ids;
  for (const std::string& prompt : prompts) {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    if (system) messages.push_back(chat_message("system", *system));
    messages.push_back(chat_message("user", prompt));
    ids.push_back(encode_chat(chat_template, tokenizer, std::move(messages)));
  }
  return ids;
}

// Texts on stdout in the order of their prompts: the first that has not ended as it comes, the others when their turn
// has come. A terminal shows the prompts too.
class Printer {
 public:
  Printer(const std::vector<std::string>& prompts, const std::vector<ContinuedText>& texts)
      : prompts_(prompts), texts_(texts) {
    begin();
  }

  void update() {
    for (;;) {
      const ContinuedText& text = texts_[current_];
      print_text(std::string_view(text.text()).substr(printed_));
      printed_ = text.text().size();
      if (!text.finished()) break;
      print_as_is("\n");
      if (++current_ == texts_.size()) break;
      print_as_is("\n");
      begin();
    }
    // As it comes also means through a pipe; and a reader that is gone should end the work.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) fail("standard output: cannot write");
  }
  bool done() const { return current_ == texts_.size(); }

 private:
  void begin() {
    printed_ = 0;
    if (!is_terminal()) return;
    if (colours()) print_as_is("\033[2m");
    print_text(prompts_[current_]);
    if (colours()) print_as_is("\033[0m");
    std::fflush(stdout);
  }
  static void print_as_is(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

  const std::vector<std::string>& prompts_;
  const std::vector<ContinuedText>& texts_;
  size_t current_ = 0, printed_ = 0;
};

nlohmann::ordered_json to_json(const std::string& prompt, const ContinuedText& text, const Generation& generation) {
  nlohmann::ordered_json json = {
      {"prompt", prompt},
      {"text", text.text()},
      {"ids", generation.ids},
      {"prompt_tokens", generation.prompt_tokens},
      {"cached_tokens", generation.cached_tokens},
      {"generated_tokens", generation.ids.size()},
      {"finish_reason", to_string(text.stopped() ? FinishReason::kStop : generation.finish_reason)},
      {"time_to_first_token_ms", generation.first_token_ms},
      {"decode_tokens_per_s", generation.decode_tokens_per_s()}};
  if (text.stopped()) json["stop_string"] = text.stop_string();
  if (generation.guessed_tokens > 0) {
    json["guessed_tokens"] = generation.guessed_tokens;
    json["kept_guesses"] = generation.kept_guesses;
  }
  return json;
}

std::string tokens(int64_t count) { return fmt::format("{} token{}", format_count(count), count == 1 ? "" : "s"); }

// Totals on stderr.
void print_summary(const std::vector<Generation>& generations, double seconds, int64_t longest_context) {
  int64_t prompt_tokens = 0, generated = 0, guessed = 0, kept = 0;
  size_t full = 0;
  for (const Generation& generation : generations) {
    prompt_tokens += generation.prompt_tokens;
    generated += std::ssize(generation.ids);
    guessed += generation.guessed_tokens;
    kept += generation.kept_guesses;
    full += generation.finish_reason == FinishReason::kContext ? 1 : 0;
  }
  if (generations.size() == 1) {
    const Generation& only = generations.front();
    fmt::print(stderr, "{} prompt {}, first token after {}; {}", format_count(prompt_tokens),
               prompt_tokens == 1 ? "token" : "tokens", format_ms(only.first_token_ms), tokens(generated));
    if (generated > 1) fmt::print(stderr, " at {} tokens/s", format_number(only.decode_tokens_per_s()));
  } else {
    fmt::print(stderr, "{} prompts with {}; {} in {} s, {} tokens/s in all", generations.size(), tokens(prompt_tokens),
               tokens(generated), format_number(seconds), format_number(static_cast<double>(generated) / seconds));
  }
  if (guessed > 0) fmt::print(stderr, "; {} of {} guesses right", format_count(kept), format_count(guessed));
  fmt::print(stderr, "\n");
  if (full > 0) {
    warn(generations.size() == 1
             ? fmt::format("the text fills the model's longest context, {}, and ends there", tokens(longest_context))
             : fmt::format("{} of {} texts fill the model's longest context, {}, and end there", full,
                           generations.size(), tokens(longest_context)));
  }
}

// The best texts of each prompt, one after another.
void run_beams(Session& session, const Tokenizer& tokenizer, const GenerateCommandOptions& options,
               const std::vector<std::string>& prompts, const std::vector<std::vector<int32_t>>& ids) {
  BeamSearchOptions search = options.beams.search();
  search.max_tokens = options.generate.max_tokens;
  search.stop_ids = options.generate.stop_ids;
  search.sampling = options.generate.sampling;
  search.kv_dtype = options.generate.kv_dtype;
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<ContinuedText> texts;
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (const BeamText& found : beam_search(session, ids[i], search)) {
      ContinuedText& text = texts.emplace_back(tokenizer, ids[i], StopStrings(), 0);
      for (const int32_t id : found.ids) text.push(id);
      text.finish();
      results.push_back({{"text", text.text()},
                         {"ids", found.ids},
                         {"score", found.score},
                         {"finish_reason", to_string(found.finish_reason)}});
    }
    json.push_back({{"prompt", prompts[i]}, {"prompt_tokens", ids[i].size()}, {"texts", std::move(results)}});
    if (options.json) continue;
    if (i > 0) fmt::print("\n");
    const std::vector<std::string> shown(texts.size(), prompts[i]);
    Printer(shown, texts).update();
  }
  if (options.json) print_json(options.prompt ? json.front() : json);
}

void check(const GenerateCommandOptions& options) {
  options.sampling.check();
  options.draft.check();
  if (!options.beams.given()) return;
  if (!options.sampling.stop_strings().empty()) fail<UsageError>("--stop with --beams: beams end at tokens only");
  if (options.draft.given()) fail<UsageError>("guesses with --beams: beams are not one text, and take none");
}

void run(GenerateCommandOptions& options) {
  const std::vector<std::string> prompts = read_prompts(options);
  options.generate.kv_dtype = parse_kv_dtype(options.kv_dtype);
  check(options);
  std::optional<ChatTemplate> chat_template;
  if (options.chat) {
    chat_template = options.chat_prompt.load_template(options.model);
  } else if (options.chat_prompt.system || options.chat_prompt.template_file) {
    fail<UsageError>("--system and --template belong to --chat, which makes a message of each prompt");
  }
  Session session = open_session(options);
  require_decoder(session);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  options.generate.sampling =
      options.sampling.options(session.checkpoint(), tokenizer, session.model().info().vocabulary);
  if (!options.ignore_eos) options.generate.stop_ids = read_eos_ids(session.checkpoint(), tokenizer.eos_id());
  if (!options.ignore_eos && options.chat) add_answer_end(options.generate.stop_ids, tokenizer);
  const std::vector<std::vector<int32_t>> ids =
      chat_template ? tokenize_as_messages(tokenizer, *chat_template, options.chat_prompt.system, prompts)
                    : tokenize(tokenizer, prompts);
  if (options.beams.given()) {
    run_beams(session, tokenizer, options, prompts, ids);
    return;
  }
  options.draft.open(tokenizer, options.threads);
  options.generate.draft = options.draft.draft();
  options.generate.draft_tokens = options.draft.tokens();
  std::vector<ContinuedText> texts;
  const StopStrings stops(options.sampling.stop_strings());
  for (const std::vector<int32_t>& prompt : ids)
    texts.emplace_back(tokenizer, prompt, stops, options.generate.sampling.min_tokens);

  std::optional<Printer> printer;
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Generation> generations =
      generate(session, ids, options.generate,
               {.on_token =
                    [&](size_t prompt, int32_t id) {
                      if (!printer && !options.json) printer.emplace(prompts, texts);
                      texts[prompt].push(id);
                      if (printer && !printer->done()) printer->update();
                      return texts[prompt].stopped() ? OnToken::kStop : OnToken::kContinue;
                    },
                .on_finish =
                    [&](size_t prompt) {
                      texts[prompt].finish();
                      if (printer && !printer->done()) printer->update();
                    }});
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (options.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (size_t i = 0; i < prompts.size(); ++i) json.push_back(to_json(prompts[i], texts[i], generations[i]));
    print_json(options.prompt ? json.front() : json);
    return;
  }
  print_summary(generations, elapsed.count(), session.model().info().max_positions);
}

}  // namespace

void add_generate(Program& program) {
  auto options = std::make_shared<GenerateCommandOptions>();
  Command command = program.add_subcommand("generate", "Continue a text, token by token");
  options->add_to(command);
  const Option prompt =
      command.add_option("--prompt", options->prompt, "The text to continue; bytes that are not UTF-8 count as U+FFFD")
          .type_name("TEXT");
  command.add_option("--prompt-file", options->prompt_file, "A prompt a line; empty lines are left out")
      .excludes(prompt)
      .type_name("FILE");
  command.add_option("--max-tokens", options->generate.max_tokens, "Tokens to add at most")
      .positive()
      .capture_default_str()
      .type_name("N");
  command.add_flag("--chat", options->chat,
                   "Each prompt is a message, which the model's chat template makes a prompt of");
  options->chat_prompt.add_to(command);
  options->sampling.add_to(command);
  options->beams.add_to(command);
  options->draft.add_to(command);
  command.add_flag("--ignore-eos", options->ignore_eos, "Do not stop at the model's end-of-text tokens");
  command.add_option("--batch", options->generate.batch, "Prompts of a file at work at once; changes no text")
      .in_range(1, 4096)
      .capture_default_str()
      .type_name("B");
  add_kv_dtype(command, options->kv_dtype);
  command.footer(
      "Without --temperature the text is the model's most likely one, token by token; sampling settings in the "
      "model's\n"
      "generation_config.json are used with --generation-config only. Steps are taken in this order: logit bias,\n"
      "repetition, frequency and presence penalty, no-repeat-ngram-size, min-tokens; and where there is a "
      "temperature:\n"
      "temperature, top-k, top-p, min-p, typical-p. The text goes to stdout, counts and speed to stderr.\n"
      "Examples:\n"
      "  octet generate smollm2 --prompt 'The capital of France is' --max-tokens 64\n"
      "  octet generate smollm2-instruct --chat --prompt 'Name three rivers.' --system 'Be brief.'\n"
      "  octet generate smollm2 --prompt 'Once upon a time' --temperature 0.8 --top-p 0.95 --seed 7\n"
      "  octet generate smollm2 --prompt 'Q: Why is the sky blue?' --stop 'Q:' --stop $'\\n\\n' --min-tokens 8\n"
      "  octet generate smollm2 --prompt 'My favourite colour is' --logit-bias ' blue=-inf' --logit-bias 2563=1.5\n"
      "  octet generate smollm2 --prompt 'The capital of France is' --beams 4 --results 2 --no-repeat-ngram-size 3\n"
      "  octet generate smollm2 --prompt-file articles.txt --prompt-lookup 3\n"
      "  octet generate smollm2 --prompt-file prompts.txt --recipe w8a16 --kv-dtype fp16 --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

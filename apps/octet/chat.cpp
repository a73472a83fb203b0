// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "apps/octet/chat_prompt.h"
#include "apps/octet/chat_session.h"
#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/line_reader.h"
#include "apps/octet/options.h"
#include "apps/octet/sampling_group.h"
#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/suggest.h"
#include "octet/generate/generation_config.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct ChatCommandOptions : ModelOptions {
  ChatPromptOptions prompt;
  SamplingGroup sampling;
  std::string kv_dtype, overflow = "error";
  int64_t max_tokens = 1024;
};

constexpr const char* kHelp =
    "  /help          this\n"
    "  /reset         forget the conversation; the system message stays\n"
    "  /system TEXT   change the system message; without TEXT there is none\n"
    "  /retry         answer the last message again (with a temperature: differently)\n"
    "  /undo          forget the last message and its answer\n"
    "  /save FILE     write the conversation as JSON\n"
    "  /stats         how full the context is, and what the last answer took\n"
    "  /quit          leave, as Ctrl-D does\n"
    "A message of many lines: begin and end it with \"\"\", end lines with \\, or paste it.\n"
    "Ctrl-C ends an answer. A message that begins with / is written with a space before it.\n";

// Ctrl-C ends an answer. While this lives it ends nothing else: not the talk either in the moments between an answer
// and the editor, where it is no key yet.
class Interrupts {
 public:
  Interrupts() {
    struct sigaction action {};
    action.sa_handler = [](int) { pressed() = true; };
    sigaction(SIGINT, &action, &before_);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  ~Interrupts() { sigaction(SIGINT, &before_, nullptr); }

  static std::atomic<bool>& pressed() {
    static std::atomic<bool> was_pressed = false;
    return was_pressed;
  }

 private:
  struct sigaction before_ {};
};

void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) fail("standard output: cannot write");
}

class Chat {
 public:
  Chat(ChatSession& session, bool json) : json_(json), session_(session) {}

  void run() {
    std::optional<Interrupts> interrupts;
    if (lines_.interactive()) {
      interrupts.emplace();
      note("Ctrl-D leaves, /help shows the commands.");
    }
    std::string message;
    while (read_message(message)) {
      const std::string_view trimmed = strip_blanks(message);
      if (trimmed.empty()) continue;
      lines_.remember(message);
      if (!lines_.interactive()) {
        if (!obey_or_answer(message)) return;
        continue;
      }
      // On a terminal a person reads what went wrong and goes on.
      try {
        if (!obey_or_answer(message)) return;
      } catch (const Error& error) {
        std::fflush(stdout);
        fmt::print(stderr, "octet: {}\n", error.what());
      }
    }
  }

 private:
  static std::string_view strip_blanks(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\n";
    const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
    text.remove_prefix(begin);
    return text.substr(0, text.find_last_not_of(kBlanks) + 1);
  }

  // Faintly, on a terminal that takes it.
  static void note(const std::string& text) {
    const bool faint = ::isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
    fmt::print(stderr, "{}{}{}\n", faint ? "\033[2m" : "", text, faint ? "\033[0m" : "");
  }

  // Between \1 and \1 stands what has no width.
  static std::string prompt(const char* sign) {
    return colours() ? fmt::format("\1\033[1;36m\1{}\1\033[0m\1 ", sign) : fmt::format("{} ", sign);
  }

  // A message may have many lines: between """ and """, or where lines end with a backslash. False at the end.
  bool read_message(std::string& message) {
    message.clear();
    constexpr std::string_view kQuotes = "\"\"\"";
    bool quoted = false;
    for (bool first = true;; first = false) {
      std::string line;
      switch (lines_.read(prompt(first ? ">" : "·"), line)) {
        case LineReader::Event::kEnd:
          if (message.empty() && !quoted) return false;
          if (!lines_.interactive()) {
            if (quoted) fail("standard input: a message that begins with \"\"\" has no end");
            return true;
          }
          note("The message is not finished: end it, or leave it with Ctrl-C.");
          break;
        case LineReader::Event::kInterrupt:
          if (first) note("Ctrl-D or /quit leaves.");
          message.clear();
          return true;
        case LineReader::Event::kLine: {
          std::string_view text = line;
          if (first && text.starts_with(kQuotes)) {
            quoted = true;
            text.remove_prefix(kQuotes.size());
          }
          const bool ends = quoted && text.ends_with(kQuotes);
          if (ends) text.remove_suffix(kQuotes.size());
          const bool goes_on = quoted ? !ends : text.ends_with('\\');
          if (!quoted && goes_on) text.remove_suffix(1);
          message += text;
          if (!goes_on) return true;
          // The line that holds nothing but the quotes is none of the message.
          if (!quoted || !first || !text.empty()) message += '\n';
          break;
        }
      }
    }
  }

  // False where it was the command to leave.
  bool obey_or_answer(const std::string& message) {
    if (!message.starts_with('/')) {
      answer(std::string(strip_blanks(message)));
      return true;
    }
    const size_t space = std::min(message.find_first_of(" \t\n"), message.size());
    const std::string command = message.substr(0, space);
    const std::string argument(strip_blanks(std::string_view(message).substr(space)));
    if (command == "/quit" || command == "/exit") return false;
    if (command == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (command == "/reset") {
      session_.reset();
    } else if (command == "/system") {
      session_.set_system(argument.empty() ? std::nullopt : std::optional(argument));
    } else if (command == "/undo") {
      if (!session_.undo()) fail("there is no message to undo");
    } else if (command == "/retry") {
      retry();
    } else if (command == "/save") {
      save(argument);
    } else if (command == "/stats") {
      show_stats();
    } else {
      const std::vector<std::string> known = {"/help", "/reset", "/system", "/retry",
                                              "/undo", "/save",  "/stats",  "/quit"};
      fail("there is no command {}.{} A message that begins with / is written with a space before it.", command,
           did_you_mean(command, known));
    }
    return true;
  }

  void retry() {
    const std::optional<std::string> message = session_.undo();
    if (!message) fail("there is no message to answer again");
    answer(*message);
  }

  void answer(const std::string& message) {
    ChatSession::Answer result;
    {
      std::optional<LineReader::Silence> silence;
      if (lines_.interactive()) silence.emplace();
      Interrupts::pressed() = false;
      result = session_.answer(
          message,
          [&](std::string_view piece) {
            if (json_) return;
            print_text(piece);
            flush_output();
          },
          [&] { return Interrupts::pressed().load(); });
    }
    last_ = result.generation;
    if (json_) {
      print_line(message, result);
      return;
    }
    if (!result.text.ends_with('\n')) fmt::print("\n");
    if (!lines_.interactive()) {
      flush_output();
      report(result);
      return;
    }
    flush_output();
    note(summary(result.generation));
    report(result);
    fmt::print(stderr, "\n");
  }

  // What a person should know of an answer beside it.
  void report(const ChatSession::Answer& result) const {
    if (result.dropped > 0) {
      warn(fmt::format("the {} oldest messages no longer fit into the context and are forgotten by the model",
                       result.dropped));
    }
    switch (result.generation.finish_reason) {
      case FinishReason::kLength:
        warn(fmt::format("the answer has {} tokens, the most that --max-tokens allows, and ends there",
                         format_count(std::ssize(result.generation.ids))));
        break;
      case FinishReason::kContext:
        warn(fmt::format("the conversation fills the model's context, {} tokens, and the answer ends there",
                         format_count(session_.longest_context())));
        break;
      default:
        break;
    }
  }

  static std::string summary(const Generation& generation) {
    std::string text = fmt::format("{} tokens", format_count(std::ssize(generation.ids)));
    if (generation.ids.size() == 1) text = "1 token";
    if (generation.decode_tokens_per_s() > 0)
      text += fmt::format(", {} tokens/s", format_number(generation.decode_tokens_per_s()));
    if (!generation.ids.empty()) text += fmt::format(", first after {}", format_ms(generation.first_token_ms));
    if (generation.finish_reason == FinishReason::kCancelled) text += "; interrupted";
    return text;
  }

  void print_line(const std::string& message, const ChatSession::Answer& result) const {
    const Generation& generation = result.generation;
    const nlohmann::ordered_json json = {
        {"message", message},
        {"text", result.text},
        {"prompt_tokens", generation.prompt_tokens},
        {"cached_tokens", generation.cached_tokens},
        {"generated_tokens", generation.ids.size()},
        {"finish_reason", to_string(result.stopped_at_string ? FinishReason::kStop : generation.finish_reason)},
        {"forgotten_messages", result.dropped},
        {"time_to_first_token_ms", generation.first_token_ms},
        {"decode_tokens_per_s", generation.decode_tokens_per_s()}};
    fmt::print("{}\n", printable_json(json));
    flush_output();
  }

  void save(const std::string& file) {
    if (file.empty()) fail("/save needs the name of a file");
    OutputFile output(file);
    output.write(printable_json(session_.history(), 2) + "\n");
    output.commit();
    note(fmt::format("saved: {}", file));
  }

  void show_stats() const {
    fmt::print(stderr, "{} exchanges, {} of {} tokens of context\n",
               format_count(static_cast<int64_t>(session_.exchanges())), format_count(session_.context_tokens()),
               format_count(session_.longest_context()));
    if (!last_) return;
    fmt::print(stderr, "last answer: {} prompt tokens, {} of them read before; {}\n",
               format_count(last_->prompt_tokens), format_count(last_->cached_tokens), summary(*last_));
  }

  bool json_;
  ChatSession& session_;
  LineReader lines_;
  std::optional<Generation> last_;
};

void run(const ChatCommandOptions& options) {
  options.sampling.check();
  ChatOptions chat;
  chat.kv_dtype = parse_kv_dtype(options.kv_dtype);
  chat.max_tokens = options.max_tokens;
  chat.overflow = options.overflow == "slide" ? ContextOverflow::kSlide : ContextOverflow::kError;
  chat.stop_strings = options.sampling.stop_strings();
  const ChatTemplate chat_template = options.prompt.load_template(options.model);
  Session session = open_session(options);
  require_decoder(session);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  chat.sampling = options.sampling.options(session.checkpoint(), tokenizer, session.model().info().vocabulary);
  chat.stop_ids = read_eos_ids(session.checkpoint(), tokenizer.eos_id());
  add_answer_end(chat.stop_ids, tokenizer);
  ChatSession conversation(session, tokenizer, chat_template, std::move(chat));
  conversation.set_system(options.prompt.system);
  Chat(conversation, options.json).run();
}

}  // namespace

void add_chat(Program& program) {
  auto options = std::make_shared<ChatCommandOptions>();
  Command command = program.add_subcommand("chat", "Talk with a model");
  options->add_to(command);
  options->prompt.add_to(command);
  command.add_option("--max-tokens", options->max_tokens, "Tokens of an answer at most")
      .positive()
      .capture_default_str()
      .type_name("N");
  command
      .add_option("--context-overflow", options->overflow,
                  "Where the conversation no longer fits into the model's context: an error, or slide, which forgets "
                  "the oldest messages but for the system message")
      .one_of({"error", "slide"})
      .capture_default_str()
      .type_name("WHAT");
  options->sampling.add_to(command);
  add_kv_dtype(command, options->kv_dtype);
  command.footer(
      "On a terminal: /help shows the commands, Ctrl-C ends an answer, Ctrl-D leaves. Through a pipe each line is a "
      "message\n"
      "(or a command), and answers go to stdout; with --json a line of JSON each.\n"
      "Examples:\n"
      "  octet chat smollm2 --recipe w8a8_dynamic\n"
      "  octet chat smollm2 --system 'Answer in one sentence.' --temperature 0.7 --top-p 0.9\n"
      "  echo 'What is the capital of France?' | octet chat smollm2 --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

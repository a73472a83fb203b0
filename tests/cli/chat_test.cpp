// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "tests/cli/cli.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// The demo's story teller with a template that writes roles, "model". It ends no answer by itself but where told.
class CliChat : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    fs::copy(OCTET_DEMO_DECODER, folder_ / "model");
    write("model/chat_template.jinja",
          "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
          "{% if add_generation_prompt %}assistant:{% endif %}");
  }

  // What `chat` answers to these lines of input.
  std::vector<json> chat(const std::string& input, const std::string& options = "") {
    input_ = write("input.txt", input);
    EXPECT_EQ(run("chat model --json --logit-bias 0=-inf --max-tokens 12 " + options), 0) << err_;
    input_ = "/dev/null";
    std::vector<json> answers;
    std::istringstream lines(out_);
    for (std::string line; std::getline(lines, line);) answers.push_back(parse_json(line, "the test"));
    return answers;
  }
  // Room for an answer that is still being written whenever a busy machine comes round to typing the next key.
  void make_context_long() {
    json config = parse_json(contents(folder_ / "model/config.json"), "the test");
    config["max_position_embeddings"] = 100'000;
    write("model/config.json", json_text(config));
  }
  std::string generated(const std::string& prompt) {
    write("prompt.txt", prompt);
    return run_json("generate model --logit-bias 0=-inf --max-tokens 12 --prompt \"$(cat prompt.txt)\"")["text"];
  }
};

TEST_F(CliChat, EachLineOfAPipeIsAMessageThatKnowsTheOnesBefore) {
  const std::vector<json> answers = chat("Tell me of a cat.\n\nAnd a dog?\r\n", "--system 'Be kind.'");
  ASSERT_EQ(answers.size(), 2);
  const std::string first = "system: Be kind.\nuser: Tell me of a cat.\nassistant:";
  EXPECT_EQ(answers[0]["message"], "Tell me of a cat.");
  EXPECT_EQ(answers[0]["text"], generated(first));
  EXPECT_EQ(answers[1]["text"],
            generated(first + answers[0]["text"].get<std::string>().insert(0, " ") + "\nuser: And a dog?\nassistant:"));
  EXPECT_EQ(answers[1]["generated_tokens"], 12);
  EXPECT_EQ(answers[1]["finish_reason"], "length");

  input_ = write("input.txt", "Tell me of a cat.\n");
  EXPECT_EQ(run("chat model --logit-bias 0=-inf --max-tokens 12 --system 'Be kind.'"), 0) << err_;
  EXPECT_EQ(out_, answers[0]["text"].get<std::string>() + "\n");
  EXPECT_THAT(err_, HasSubstr("--max-tokens"));
}

TEST_F(CliChat, WhatTheModelHasReadIsNotReadAgain) {
  const std::string story(400, 'a');
  const std::vector<json> answers = chat(story + "\nAnd then?\nAnd then?\n");
  ASSERT_EQ(answers.size(), 3);
  EXPECT_EQ(answers[0]["cached_tokens"], 0);
  for (const size_t i : {1, 2}) {
    const int cached = answers[i]["cached_tokens"], before = answers[i - 1]["prompt_tokens"];
    EXPECT_GE(cached, 64);
    EXPECT_GE(cached, (before + 11) / 64 * 64 - 64) << "all whole blocks of 64 but those that the template changed";
  }
}

TEST_F(CliChat, GenerateMakesMessagesOfPrompts) {
  const json one =
      run_json("generate model --chat --system Hello. --prompt 'Tell me.' --logit-bias 0=-inf --max-tokens 12");
  EXPECT_EQ(one["text"], generated("system: Hello.\nuser: Tell me.\nassistant:"));
  EXPECT_EQ(run("generate model --prompt x --system y"), 2);
  EXPECT_THAT(err_, HasSubstr("--chat"));
  write("other.jinja", "{{ bos_token }}{{ messages[0].content }}");
  EXPECT_EQ(run_json("generate model --chat --template other.jinja --prompt 'Once upon' --logit-bias 0=-inf "
                     "--max-tokens 12")["text"],
            generated("Once upon"));
}

TEST_F(CliChat, CommandsChangeTheConversation) {
  const std::vector<json> answers = chat(
      "One.\nTwo.\n/undo\nTwo.\n/retry\n/system Be odd.\n/retry\n/save "
      "talk.json\n/reset\nOne.\n/system\n/reset\nOne.\n/stats\n/quit\nNo.\n");
  ASSERT_EQ(answers.size(), 7);
  EXPECT_EQ(answers[2]["text"], answers[1]["text"]);
  EXPECT_EQ(answers[3]["text"], answers[1]["text"]);
  EXPECT_EQ(answers[4]["message"], "Two.");
  EXPECT_GT(answers[4]["prompt_tokens"], answers[3]["prompt_tokens"]);
  const json talk = parse_json(contents(folder_ / "talk.json"), "the test");
  ASSERT_EQ(talk.size(), 5);
  EXPECT_EQ(talk[0], (json{{"role", "system"}, {"content", "Be odd."}}));
  EXPECT_EQ(talk[4]["content"], answers[4]["text"]);
  EXPECT_EQ(answers[6]["text"], answers[0]["text"]);
  EXPECT_THAT(err_, HasSubstr("of 512 tokens of context"));
}

TEST_F(CliChat, AMessageMayHaveManyLines) {
  const std::vector<json> answers = chat("\"\"\"\nOne.\n\n/two \\\n\"\"\"\nThree \\\nfour\n\"\"\"five\"\"\"\n /six\n");
  ASSERT_EQ(answers.size(), 4);
  EXPECT_EQ(answers[0]["message"], "One.\n\n/two \\");
  EXPECT_EQ(answers[1]["message"], "Three \nfour");
  EXPECT_EQ(answers[2]["message"], "five");
  EXPECT_EQ(answers[3]["message"], "/six");
}

TEST_F(CliChat, AFullContextIsAnErrorOrSlides) {
  std::string long_talk;
  for (int i = 0; i < 6; ++i) long_talk += std::string(120, 'a' + i) + "\n";
  input_ = write("input.txt", long_talk);
  EXPECT_EQ(run("chat model --json --logit-bias 0=-inf --max-tokens 12 --system Hello."), 1);
  EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr("512"), HasSubstr("--context-overflow slide")));
  const std::vector<json> answers = chat(long_talk, "--context-overflow slide --system Hello.");
  ASSERT_EQ(answers.size(), 6);
  int forgotten = 0;
  for (const json& answer : answers) {
    EXPECT_LE(answer["prompt_tokens"], 500);
    forgotten += answer["forgotten_messages"].get<int>();
  }
  EXPECT_GE(forgotten, 2);
  input_ = write("input.txt", std::string(3000, 'a') + "\n");
  EXPECT_EQ(run("chat model --context-overflow slide"), 1);
  EXPECT_THAT(err_, HasSubstr("this message has"));
}

TEST_F(CliChat, BadInputIsOneMessage) {
  input_ = write("input.txt", "Hello.\n");
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {"chat model --context-overflow maybe", 2, "maybe"},
      {"chat model --max-tokens 0", 2, "--max-tokens"},
      {"chat model --temperature -1", 2, "temperature"},
      {"chat model --template none.jinja", 1, "none.jinja"},
      {"chat " OCTET_DEMO_DECODER, 1, "--template FILE"},
      {"generate " OCTET_DEMO_DECODER " --chat --prompt x", 1, "--template FILE"},
      {"chat model --template refuses.jinja", 1, "users only"},
      {"chat model --template wrong.jinja", 1, "wrong.jinja: line 2"},
      {"chat " OCTET_GOLDEN "/bert_base --template refuses.jinja", 2, "does not predict the next token"},
  };
  write("refuses.jinja", "{{ raise_exception('users only') }}");
  write("wrong.jinja", "a\n{{ 1 + }}");
  for (const auto& [arguments, status, words] : cases) {
    EXPECT_EQ(run(arguments), status) << arguments << err_;
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr(words))) << arguments;
    EXPECT_EQ(out_, "") << arguments;
  }
  for (const std::string line : {"/rety", "/undo", "/retry", "/save", "\"\"\"open"}) {
    input_ = write("input.txt", line + "\n");
    EXPECT_EQ(run("chat model"), 1) << line;
    EXPECT_THAT(err_, testing::StartsWith("octet: ")) << line;
  }
  EXPECT_EQ(run("chat model", "", "/dev/full"), 1);
}

// The program on a terminal of its own.
class Terminal {
 public:
  Terminal(const fs::path& folder, const std::vector<std::string>& arguments) {
    EXPECT_EQ(::openpty(&master_, &terminal_, nullptr, nullptr, nullptr), 0);
    ::tcgetattr(terminal_, &before_);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::login_tty(::dup(terminal_));
      ::setenv("TERM", "xterm", 1);
      ::setenv("LC_ALL", "C.UTF-8", 1);
      ::setenv("NO_COLOR", "1", 1);
      if (::chdir(folder.c_str()) != 0) ::_exit(126);
      std::vector<char*> argv = {const_cast<char*>(OCTET_PROGRAM)};
      for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv(OCTET_PROGRAM, argv.data());
      ::_exit(127);
    }
  }
  ~Terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(master_);
    ::close(terminal_);
  }

  void type(std::string_view keys) {
    EXPECT_EQ(::write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // Waits until the screen gets `text` after what was waited for before; what came.
  std::string wait_for(std::string_view text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      const size_t found = screen_.find(text, seen_);
      if (found != std::string::npos) {
        std::string part = screen_.substr(seen_, found + text.size() - seen_);
        seen_ = found + text.size();
        return part;
      }
      if (std::chrono::steady_clock::now() > deadline || !read_more(1000)) {
        ADD_FAILURE() << "no '" << text << "' in: " << screen_.substr(seen_);
        return "";
      }
    }
  }
  /// The exit status, or minus the signal that ended it.
  int wait() {
    while (::waitpid(pid_, &status_, WNOHANG) == 0) read_more(20);
    while (read_more(20) && screen_.size() < 1'000'000) {
      if (!got_more_) break;
    }
    pid_ = -1;
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  }
  bool has_its_modes_back() const {
    termios now{};
    ::tcgetattr(terminal_, &now);
    return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag && now.c_oflag == before_.c_oflag &&
           std::memcmp(now.c_cc, before_.c_cc, sizeof(now.c_cc)) == 0;
  }
  // What was typed early is shown by the terminal itself, before a line is edited.
  bool gets_other_modes() const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (has_its_modes_back()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  pid_t pid() const { return pid_; }
  const std::string& screen() const { return screen_; }

 private:
  bool read_more(int milliseconds) {
    pollfd waiting{.fd = master_, .events = POLLIN, .revents = 0};
    got_more_ = ::poll(&waiting, 1, milliseconds) > 0;
    if (!got_more_) return true;
    std::array<char, 4096> buffer;
    const ssize_t count = ::read(master_, buffer.data(), buffer.size());
    if (count <= 0) return false;
    screen_.append(buffer.data(), static_cast<size_t>(count));
    return true;
  }

  int master_ = -1, terminal_ = -1, status_ = 0;
  pid_t pid_ = -1;
  termios before_{};
  std::string screen_;
  size_t seen_ = 0;
  bool got_more_ = false;
};

const std::vector<std::string> kEndless = {"chat", "model", "--logit-bias", "0=-inf", "--max-tokens", "90000"};

TEST_F(CliChat, CtrlCEndsAnAnswerAndNotTheProgram) {
  make_context_long();
  Terminal terminal(folder_, kEndless);
  terminal.wait_for("/help");
  terminal.wait_for("> ");
  terminal.type("Tell me of a cat.\n");
  terminal.wait_for("\r\n");
  terminal.wait_for(" ");  // the first word
  terminal.type("\x03");
  terminal.wait_for("interrupted");
  terminal.type("/save talk.json\n");
  terminal.wait_for("saved");
  const json talk = parse_json(contents(folder_ / "talk.json"), "the test");
  ASSERT_EQ(talk.size(), 2);
  EXPECT_NE(talk[1]["content"], "");
  // On an empty prompt it says how to leave.
  terminal.wait_for("> ");
  terminal.type("\x03");
  terminal.wait_for("Ctrl-D");
  terminal.wait_for("> ");
  terminal.type("\x04");
  EXPECT_EQ(terminal.wait(), 0) << terminal.screen();
  EXPECT_TRUE(terminal.has_its_modes_back());
}

TEST_F(CliChat, APasteOfManyLinesIsOneMessageAndUtf8IsEdited) {
  Terminal terminal(folder_, {"chat", "model", "--max-tokens", "3"});
  terminal.wait_for("> ");
  terminal.type("\033[200~One.\rTwo.\r\033[201~\n");
  terminal.wait_for("tokens/s");
  terminal.wait_for("> ");
  terminal.type("caf\u00e9\u00e9\x7F\n");  // one é too much, and the key that takes it back
  terminal.wait_for("tokens/s");
  terminal.type("/save talk.json\n");
  terminal.wait_for("saved");
  const json talk = parse_json(contents(folder_ / "talk.json"), "the test");
  EXPECT_EQ(talk[0]["content"], "One.\nTwo.");
  EXPECT_EQ(talk[2]["content"], "caf\u00e9");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(CliChat, ErrorsOnATerminalDoNotEndTheTalk) {
  make_context_long();
  Terminal terminal(folder_, kEndless);
  terminal.wait_for("> ");
  terminal.type("/rety\n");
  terminal.wait_for("there is no command /rety");
  terminal.type("/undo\n");
  terminal.wait_for("no message to undo");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_TRUE(terminal.has_its_modes_back());
}

TEST_F(CliChat, ASignalLeavesTheTerminalAsItWas) {
  make_context_long();
  for (const bool while_answering : {false, true}) {
    Terminal terminal(folder_, kEndless);
    terminal.wait_for("> ");
    terminal.type("Tell me");
    terminal.wait_for("Tell me");
    if (while_answering) {
      terminal.type(" of a cat.\n");
      terminal.wait_for("\r\n");
    } else {
      EXPECT_TRUE(terminal.gets_other_modes());
    }
    ::kill(terminal.pid(), SIGTERM);
    EXPECT_EQ(terminal.wait(), -SIGTERM);
    EXPECT_TRUE(terminal.has_its_modes_back());
    EXPECT_GT(terminal.screen().rfind("\033[?2004l") + 1, terminal.screen().rfind("\033[?2004h") + 1);
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/line_reader.h"

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include <histedit.h>
#include <langinfo.h>
#include <termios.h>
#include <unistd.h>

#include "apps/octet/options.h"
#include "octet/base/error.h"

namespace octet::cli {
namespace {

// A terminal in this mode marks what is pasted, so that the ends of its lines are not taken for the Enter key.
constexpr std::string_view kMarkPastes = "\033[?2004h", kMarkNoPastes = "\033[?2004l";
constexpr std::wstring_view kPasteEnd = L"\033[201~";

void write_terminal(std::string_view text) {
  const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
  static_cast<void>(written);  // a terminal that is gone needs no setting
}

bool marks_pastes() {
  const char* terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

// The modes that the terminal had before the program changed any.
termios& modes_before() {
  static termios modes = [] {
    termios now{};
    ::tcgetattr(STDIN_FILENO, &now);
    return now;
  }();
  return modes;
}

// Behind libedit's own handler, which gives the terminal its modes back and then lets the signal take its course.
extern "C" void end_by_signal(int signal) {
  ::tcsetattr(STDIN_FILENO, TCSANOW, &modes_before());
  write_terminal(kMarkNoPastes);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

class LineReader::Editor {
 public:
  Editor() {
    // libedit needs to know that text is UTF-8; numbers keep their points.
    std::setlocale(LC_CTYPE, "");
    if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
    modes_before();
    for (const int signal : {SIGTERM, SIGHUP}) before_[signal == SIGHUP] = std::signal(signal, end_by_signal);
    edit_ = el_init("octet", stdin, stdout, stderr);
    history_ = history_init();
    if (edit_ == nullptr || history_ == nullptr) fail("the terminal cannot be used for editing lines");
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_PROMPT_ESC, &Editor::prompt, '\1');
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, history, history_);
    el_set(edit_, EL_SIGNAL, 1);
    el_set(edit_, EL_ADDFN, "octet-interrupt", "Leave the line", &Editor::interrupt);
    el_set(edit_, EL_ADDFN, "octet-end", "Leave where the line is empty", &Editor::end);
    el_set(edit_, EL_ADDFN, "octet-paste", "Insert what is pasted", &Editor::paste);
    // Ctrl-C is a key while a line is edited.
    el_set(edit_, EL_SETTY, "-d", "-isig", nullptr);
    bind("^C", "octet-interrupt");
    bind("^D", "octet-end");
    bind("\\e[200~", "octet-paste");
    bind("\\e[3~", "ed-delete-next-char");
    bind("\\e[H", "ed-move-to-beg");
    bind("\\e[F", "ed-move-to-end");
    bind("\\e[1;5C", "em-next-word");
    bind("\\e[1;5D", "ed-prev-word");
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;
  ~Editor() {
    if (history_ != nullptr) history_end(history_);
    if (edit_ != nullptr) el_end(edit_);
    std::signal(SIGTERM, before_[0]);
    std::signal(SIGHUP, before_[1]);
  }

  Event read(const std::string& prompt, std::string& line) {
    prompt_ = prompt;
    event_ = Event::kLine;
    int count = 0;
    std::fflush(stdout);
    if (marks_pastes()) write_terminal(kMarkPastes);
    // Before the prompt is there: libedit changes the modes after it, and a Ctrl-C between the two would be a signal.
    el_set(edit_, EL_PREP_TERM, 1);
    const char* text = el_gets(edit_, &count);
    if (marks_pastes()) write_terminal(kMarkNoPastes);
    if (event_ != Event::kLine) {
      write_terminal("\n");
      return event_;
    }
    if (text == nullptr || count <= 0) return Event::kEnd;
    line.assign(text, static_cast<size_t>(count));
    if (line.ends_with('\n')) line.pop_back();
    return Event::kLine;
  }

  void remember(const std::string& text) {
    HistEvent event;
    history(history_, &event, H_ENTER, text.c_str());
  }

 private:
  void bind(const char* key, const char* function) { el_set(edit_, EL_BIND, key, function, nullptr); }

  static Editor& of(EditLine* edit) {
    void* data = nullptr;
    el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<Editor*>(data);
  }
  static char* prompt(EditLine* edit) { return of(edit).prompt_.data(); }

  static unsigned char interrupt(EditLine* edit, int) {
    of(edit).event_ = Event::kInterrupt;
    return CC_EOF;
  }
  static unsigned char end(EditLine* edit, int) {
    const LineInfo* line = el_line(edit);
    if (line->lastchar != line->buffer) return CC_ERROR;
    of(edit).event_ = Event::kEnd;
    return CC_EOF;
  }
  static unsigned char paste(EditLine* edit, int) {
    std::wstring text;
    wchar_t c = 0;
    while (!text.ends_with(kPasteEnd) && el_wgetc(edit, &c) == 1) {
      // Of control characters a paste has the ends of lines and tabs; the others would steer the terminal.
      if (c == L'\r') c = L'\n';
      if (c >= L' ' || c == L'\n' || c == L'\t' || c == L'\033') text += c;
    }
    if (text.ends_with(kPasteEnd)) text.resize(text.size() - kPasteEnd.size());
    std::erase(text, L'\033');
    while (text.ends_with(L'\n')) text.pop_back();
    return el_winsertstr(edit, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }

  using Handler = void (*)(int);
  Handler before_[2] = {SIG_DFL, SIG_DFL};  // of SIGTERM and SIGHUP
  EditLine* edit_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_;
  Event event_ = Event::kLine;
};

LineReader::Silence::Silence() {
  termios modes = modes_before();
  modes.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

LineReader::Silence::~Silence() { ::tcsetattr(STDIN_FILENO, TCSANOW, &modes_before()); }

LineReader::LineReader() {
  if (::isatty(STDIN_FILENO) != 0 && is_terminal()) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

LineReader::Event LineReader::read(const std::string& prompt, std::string& line) {
  if (editor_) return editor_->read(prompt, line);
  if (!std::getline(std::cin, line)) return Event::kEnd;
  if (line.ends_with('\r')) line.pop_back();
  return Event::kLine;
}

void LineReader::remember(const std::string& text) {
  if (editor_) editor_->remember(text);
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

namespace octet::cli {

/// Lines from standard input: edited, with a history and pastes of many lines, where it and standard output are a
/// terminal; as they come otherwise.
class LineReader {
 public:
  LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  /// The terminal is as it was.
  ~LineReader();

  bool interactive() const { return editor_ != nullptr; }

  enum class Event { kLine, kInterrupt, kEnd };
  /// The next line, without its end. kInterrupt: Ctrl-C was pressed; kEnd: there is no more, or Ctrl-D was pressed.
  /// A terminal shows `prompt` before the line.
  Event read(const std::string& prompt, std::string& line);
  /// Lines that the arrow keys bring back.
  void remember(const std::string& text);

  /// Keys are not shown while this lives; what is typed waits for the next line.
  class Silence {
   public:
    Silence();
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;
    ~Silence();
  };

 private:
  class Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace octet::cli

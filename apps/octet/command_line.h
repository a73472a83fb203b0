// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace octet::cli {

/// An option or argument of a command, as CLI11 has it. Only command_line.cpp reads CLI11: it takes longer to compile
/// than most commands do.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option required();
  /// What --help calls its value.
  Option type_name(const std::string& name);
  Option description(const std::string& text);
  /// --help shows the value that the variable has now, or `value`.
  Option capture_default_str();
  Option default_str(const std::string& value);
  /// What values are taken; anything else is a usage error.
  Option in_range(int least, int most);
  Option positive();
  Option not_negative();
  Option one_of(const std::vector<std::string>& names);
  Option existing_file();
  Option existing_directory();
  /// "512MB" is 512000000.
  Option in_bytes();
  /// Values may be given as one text: "1,8".
  Option delimiter(char delimiter);
  /// One value an option, which may be repeated.
  Option allow_extra_args(bool value);
  Option needs(Option other);
  Option excludes(Option other);

  /// How often it was given.
  size_t count() const;

 private:
  CLI::Option* option_;
};

/// A subcommand of the program. Copies are the same command.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  /// Sets `value`, which has to live when the line is parsed, of one of the types that command_line.cpp lists.
  template <class T>
  Option add_option(const std::string& names, T& value, const std::string& description);
  Option add_flag(const std::string& names, bool& value, const std::string& description);
  Option get_option(const std::string& name);
  void remove_option(const std::string& name);

  /// What --help ends with.
  void footer(const std::string& text);
  /// What runs once the line is parsed.
  void callback(std::function<void()> function);
  /// How often the option `name` was given.
  size_t count(const std::string& name) const;

 private:
  CLI::App* app_;
};

/// The program: its subcommands, one of which a line has to name.
class Program {
 public:
  Program(const std::string& name, const std::string& description, const std::string& version);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  Command add_subcommand(const std::string& name, const std::string& description);
  void footer(const std::string& text);
  /// Runs the subcommand that the line names, or prints what --help or --version ask for. Throws UsageError where the
  /// line is not understood, and what the subcommand throws.
  void run(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/command_line.h"

#include <cstdint>
#include <optional>
#include <utility>

#include <CLI/CLI.hpp>

#include "octet/base/error.h"

namespace octet::cli {

Option Option::required() { return Option(option_->required()); }

Option Option::type_name(const std::string& name) { return Option(option_->type_name(name)); }

Option Option::description(const std::string& text) { return Option(option_->description(text)); }

Option Option::capture_default_str() { return Option(option_->capture_default_str()); }

Option Option::default_str(const std::string& value) { return Option(option_->default_str(value)); }

Option Option::in_range(int least, int most) { return Option(option_->check(CLI::Range(least, most))); }

Option Option::positive() { return Option(option_->check(CLI::PositiveNumber)); }

Option Option::not_negative() { return Option(option_->check(CLI::NonNegativeNumber)); }

Option Option::one_of(const std::vector<std::string>& names) { return Option(option_->check(CLI::IsMember(names))); }

Option Option::existing_file() { return Option(option_->check(CLI::ExistingFile)); }

Option Option::existing_directory() { return Option(option_->check(CLI::ExistingDirectory)); }

Option Option::in_bytes() { return Option(option_->transform(CLI::AsSizeValue(false))); }

Option Option::delimiter(char delimiter) { return Option(option_->delimiter(delimiter)); }

Option Option::allow_extra_args(bool value) { return Option(option_->allow_extra_args(value)); }

Option Option::needs(Option other) { return Option(option_->needs(other.option_)); }

Option Option::excludes(Option other) { return Option(option_->excludes(other.option_)); }

size_t Option::count() const { return option_->count(); }

template <class T>
Option Command::add_option(const std::string& names, T& value, const std::string& description) {
  return Option(app_->add_option(names, value, description));
}

template Option Command::add_option(const std::string&, std::string&, const std::string&);
template Option Command::add_option(const std::string&, int&, const std::string&);
template Option Command::add_option(const std::string&, int64_t&, const std::string&);
template Option Command::add_option(const std::string&, uint64_t&, const std::string&);
template Option Command::add_option(const std::string&, double&, const std::string&);
template Option Command::add_option(const std::string&, std::optional<std::string>&, const std::string&);
template Option Command::add_option(const std::string&, std::optional<int>&, const std::string&);
template Option Command::add_option(const std::string&, std::optional<int64_t>&, const std::string&);
template Option Command::add_option(const std::string&, std::vector<std::string>&, const std::string&);
template Option Command::add_option(const std::string&, std::vector<int64_t>&, const std::string&);

Option Command::add_flag(const std::string& names, bool& value, const std::string& description) {
  return Option(app_->add_flag(names, value, description));
}

Option Command::get_option(const std::string& name) { return Option(app_->get_option(name)); }

void Command::remove_option(const std::string& name) { app_->remove_option(app_->get_option(name)); }

void Command::footer(const std::string& text) { app_->footer(text); }

void Command::callback(std::function<void()> function) { app_->callback(std::move(function)); }

size_t Command::count(const std::string& name) const { return app_->count(name); }

Program::Program(const std::string& name, const std::string& description, const std::string& version)
    : app_(std::make_unique<CLI::App>(description, name)) {
  app_->set_version_flag("--version", version);
  app_->require_subcommand(1);
}

Program::~Program() = default;

Command Program::add_subcommand(const std::string& name, const std::string& description) {
  return Command(app_->add_subcommand(name, description));
}

void Program::footer(const std::string& text) { app_->footer(text); }

void Program::run(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success& asked) {
    app_->exit(asked);  // --help, --version
  } catch (const CLI::ParseError& error) {
    fail<UsageError>("{}\nRun 'octet --help' or 'octet COMMAND --help' for the options.", error.what());
  }
}

}  // namespace octet::cli

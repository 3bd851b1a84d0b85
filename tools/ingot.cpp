// `ingot`: runs, measures and describes the files that ingotc writes. Each subcommand is a file in tools/ingot/.
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "tools/ingot/command.h"

int main(int argc, char **argv) {
  constexpr int kFailed = 1, kWrongUsage = 2;
  CLI::App app(
      "Runs language models that ingotc compiled into one .ingot file, on an AMD GPU or on the emulator of one.",
      "ingot");
  app.set_version_flag("--version", INGOT_VERSION);
  app.require_subcommand(1);
  app.footer("`ingot COMMAND --help` explains a command. Exit code: 0 success, 2 wrong usage, 1 everything else.");
  ingot::cli::Command command;
  ingot::cli::addRun(app, command);
  ingot::cli::addLogits(app, command);
  ingot::cli::addInspect(app, command);
  ingot::cli::addDoctor(app, command);
  ingot::cli::addBench(app, command);
  ingot::cli::addEval(app, command);
  ingot::cli::addServe(app, command);
  ingot::cli::addChat(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (absl::Status status = command.action(); !status.ok()) {
    std::fprintf(stderr, "ingot: error: %s\n", std::string(status.message()).c_str());
    return kFailed;
  }
  return 0;
}

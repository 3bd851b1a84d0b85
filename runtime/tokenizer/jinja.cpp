// The border: whatever ends a parse or render early leaves as a status that names the line.
#include "runtime/tokenizer/jinja.h"

#include <new>
#include <stdexcept>

#include "absl/status/status.h"

#include "runtime/tokenizer/jinja_machine.h"
#include "runtime/tokenizer/jinja_program.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot::jinja {
namespace {

absl::Status statusOf(const Failure &failure, int line) {
  std::string where = cat("chat template line ", line, ": ");
  switch (failure.kind) {
  case Failure::RAISED:
    return absl::InvalidArgumentError(
        cat("the chat template refuses these messages (line ", line, "): ", failure.message));
  case Failure::PYTHON:
    return absl::FailedPreconditionError(where + failure.message);
  case Failure::UNSUPPORTED:
    return absl::UnimplementedError(where + failure.message + " is not supported by Ingot's Jinja");
  case Failure::LIMIT:
    return absl::ResourceExhaustedError(where + failure.message);
  case Failure::SYNTAX:
    return absl::InvalidArgumentError(where + failure.message);
  }
  return absl::InternalError(where + failure.message);
}

template <typename Action> absl::Status guarded(int &line, const Action &action) {
  try {
    action();
    return absl::OkStatus();
  } catch (const Failure &failure) {
    return statusOf(failure, line);
  } catch (const std::bad_alloc &) {
    return absl::ResourceExhaustedError(cat("chat template line ", line, ": out of memory"));
  } catch (const std::exception &error) {
    return absl::InternalError(cat("chat template line ", line, ": ", std::string_view(error.what())));
  }
}

} // namespace

Template::Template() = default;
Template::~Template() = default;

absl::StatusOr<std::unique_ptr<Template>> Template::parse(std::string_view source) {
  std::unique_ptr<Template> made(new Template);
  int line = 0;
  absl::Status status = guarded(line, [&] { made->program = parseProgram(utf8::replaceBroken(source), line); });
  if (!status.ok())
    return status;
  return made;
}

absl::Status Template::checkNames() const {
  int line = 0;
  return guarded(line, [&] {
    for (const Expr &expression : program->expressions) {
      line = expression.line;
      if (expression.kind == Expr::FILTER)
        demandFilter(expression.text);
      else if (expression.kind == Expr::TEST)
        demandTest(expression.text);
    }
  });
}

absl::StatusOr<std::string> Template::render(const nlohmann::ordered_json &variables,
                                             const RenderOptions &options) const {
  if (!variables.is_object())
    return absl::InvalidArgumentError("chat template: the variables must be a JSON object");
  std::string text;
  Machine machine(*program, options);
  absl::Status status = guarded(machine.line, [&] { text = machine.run(variables); });
  if (!status.ok())
    return status;
  return text;
}

} // namespace ingot::jinja

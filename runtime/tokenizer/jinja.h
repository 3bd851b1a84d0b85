// Chat templates are Jinja2 programs that come with the checkpoint. This is an interpreter of the part of Jinja2 they
// use, rendering exactly as Python's Jinja2 does in the sandbox Hugging Face renders chat templates in: trim_blocks and
// lstrip_blocks on, loop controls, no escaping, `tojson` as plain JSON, and nothing a template holds can be changed but
// namespaces. A template is a stranger's program: it runs under limits and can end only in text or a status.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace ingot::jinja {

struct Limits {
  int64_t steps = 20'000'000;       // evaluated nodes and visited elements
  int64_t bytes = int64_t{1} << 28; // of everything made while rendering, together
};

struct RenderOptions {
  Limits limits;
  std::optional<std::time_t> now; // what strftime_now sees; the clock if absent
};

class Template {
public:
  // Errors name the line. InvalidArgument: not a Jinja template. Unimplemented: a statement that chat templates have no
  // use for (include, extends, block, ...). ResourceExhausted: over 1 MiB, or nested too deeply.
  static absl::StatusOr<std::unique_ptr<Template>> parse(std::string_view source);
  ~Template();

  // Unimplemented, with the line, where a filter or a test has a name that is not known here, on whatever path. `parse`
  // takes such a template, since Python's Jinja2 renders it as long as it goes other ways.
  absl::Status checkNames() const;

  // `variables` is an object: what the template sees as globals. Key order is kept (tool schemas are printed by it).
  // Errors name the line. InvalidArgument: the template called raise_exception; the message is the template's.
  // FailedPrecondition: a Python exception (undefined value used, wrong type, ...). Unimplemented: a filter, test or
  // method that exists in Python but not here. ResourceExhausted: a limit. Thread-safe.
  absl::StatusOr<std::string> render(const nlohmann::ordered_json &variables, const RenderOptions &options = {}) const;

private:
  Template();
  std::unique_ptr<struct Program> program;
};

} // namespace ingot::jinja

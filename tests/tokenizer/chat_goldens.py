#!/usr/bin/env python3
"""What Python's Jinja2 with Hugging Face's settings renders of chat templates, over a corpus of conversations. Needs jinja2.

usage: chat_goldens.py FOLDER [GGUF...]

writes FOLDER/chat.json for the templates FOLDER/*.jinja. From each GGUF the template it carries is first put there, under
the file's name. jinja_test compares them where INGOT_TEST_TEMPLATES names the folder: so the templates of real models are
checked without being copied into the repository."""

import datetime
import json
import pathlib
import struct
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

NOW = datetime.datetime(2026, 3, 9, 7, 5, 3)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather \u2014 now", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Which city? \"quoted\" & <b>"}, "days": {"type": "integer", "default": 3}}, "required": ["city"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "number"}, "a": {"type": ["number", "null"], "enum": [1, 2.5, 1e20, None, True]}}}}},
]
U = lambda text: {"role": "user", "content": text}
A = lambda text, **more: {"role": "assistant", "content": text, **more}
S = lambda text: {"role": "system", "content": text}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Z\u00fcrich", "days": 2}}}
CONVERSATIONS = [
    [U("Hello!")],
    [S("Be brief."), U("What is 2 + 2?")],
    [U("  spaces around  "), A("\n yes \n"), U("and more\n\n")],
    [S("  You are \u2014 terse \U0001f600 "), U("Tell me: <|im_start|> \"quotes\" & <tags> \\ {{ x }} {% y %}"), A("No."), U("Why?"), A("Because."), U("Ok \u4f60\u597d")],
    [U("a"), U("b")],
    [A("I begin")],
    [U("weather?"), A("", tool_calls=[CALL]), {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefghi"}, A("It is 21.5 degrees."), U("thanks")],
    [U("weather?"), {"role": "assistant", "content": None, "tool_calls": [CALL, {"id": "123456789", "function": {"name": "add", "arguments": "{\"x\": 1}"}}]}, {"role": "tool", "content": "1", "tool_call_id": "abcdefghi"}, {"role": "tool", "content": {"content": 2, "list": [1, 2.0, None]}, "tool_call_id": "123456789"}],
    [U("think"), A("<think>\nhm, 1 + 1\n</think>\n\nTwo."), U("again"), A("<think>more</think>Three.", reasoning_content="kept apart")],
    [U([{"type": "text", "text": " part one "}, {"type": "image"}, {"type": "text", "text": "part two"}]), A("seen")],
    [S([{"type": "text", "text": "system part"}]), U([{"type": "text", "text": "x"}])],
    [{"role": "developer", "content": "odd role"}, U("hi")],
    [U("")],
    [],
]


def template_cases(folder):
    env = environment()
    out = []
    for path in sorted(folder.glob("*.jinja")):
        template = env.from_string(path.read_text())
        for conversation in CONVERSATIONS:
            for extras in ({}, {"tools": TOOLS}, {"enable_thinking": False, "date_string": "1 Jan 2026"}):
                for generate in (False, True):
                    variables = {"messages": conversation, "tools": None, "documents": None, "add_generation_prompt": generate, "bos_token": "<s>", "eos_token": "</s>", **extras}
                    case = {"template": path.name, "variables": variables}
                    try:
                        case["text"] = template.render(**variables)
                    except jinja2.exceptions.TemplateError as error:
                        case["error"] = str(error)
                        case["raised"] = type(error) is jinja2.exceptions.TemplateError
                    except Exception as error:  # what Python itself raises inside a template
                        case["error"] = str(error)
                        case["raised"] = False
                    out.append(case)
    return out


def goldens(folder):
    return {"now": NOW.isoformat(), "cases": template_cases(folder)}


def gguf_template(path):
    """The string of tokenizer.chat_template; None where there is none. Other metadata is stepped over."""
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def skip(kind):
            if kind == 8:
                file.seek(number("Q"), 1)
            elif kind == 9:
                inner, count = number("I"), number("Q")
                if inner in (8, 9):
                    for _ in range(count):
                        skip(inner)
                else:
                    file.seek(count * (1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8)[inner], 1)
            else:
                file.seek((1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8)[kind], 1)

        if file.read(4) != b"GGUF":
            raise SystemExit(f"{path}: expected a GGUF file")
        number("I"), number("Q")
        for _ in range(number("Q")):
            key = file.read(number("Q")).decode()
            kind = number("I")
            if key == "tokenizer.chat_template":
                return file.read(number("Q")).decode()
            skip(kind)
    return None


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        template = gguf_template(name)
        if template is None:
            raise SystemExit(f"{name}: expected a chat template, found none")
        (folder / (pathlib.Path(name).stem + ".jinja")).write_text(template)
    made = goldens(folder)
    (folder / "chat.json").write_text(json.dumps(made))
    names = sorted({case["template"] for case in made["cases"]})
    print(f"{folder}/chat.json: {len(made['cases'])} cases of {len(names)} templates: {', '.join(names)}")


if __name__ == "__main__":
    main()

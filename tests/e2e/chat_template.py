#!/usr/bin/env python3
"""A chat template from a file: Gemma 3 270M, the base model, whose checkpoint has none, under the template of Gemma 2, whose turns are
Gemma 3's. `ingot serve` renders and splits chats as Jinja2 and the sentencepiece library do; greedy replies are transformers'; the
template's end of turn ends a reply; `ingot run`, `ingot serve` and `ingot chat` all use it.

usage: chat_template.py BUILD_FOLDER TARGET MODEL.gguf TEMPLATE.jinja"""

import json
import os
import pathlib
import subprocess
import sys

import serve
import support

GOLDEN = support.SOURCE / "tests" / "goldens" / "gemma3-270m" / "chat.safetensors"
END_OF_TURN = 106  # <end_of_turn> of Gemma 3's vocabulary
WORDS = 20         # letters of a reply that must be there: the first tokens


def chats(session, server, target, name, facts, tokens):
    messages, prompt, start = facts["messages"], facts["prompt"], facts["reply"][:WORDS]
    rendered = server.request("POST", "/apply-template", {"messages": messages})[2]
    session.check(rendered == {"prompt": prompt}, f"{target}, {name}: the chat is rendered as Jinja2 does", rendered)
    split = server.request("POST", "/tokenize", {"content": prompt, "parse_special": True})[2]
    session.check(split["tokens"] == tokens, f"{target}, {name}: its {len(tokens)} tokens are sentencepiece's", split)
    status, _, answer = server.chat(messages=messages, max_tokens=8)
    good = status == 200 and answer["choices"][0]["message"]["content"].startswith(start)
    session.check(good and answer["usage"]["prompt_tokens"] == len(tokens),
                  f"{target}, {name}: ingot serve takes those tokens and answers {start!r}", answer)


def body(session, target, model, template):
    for file, script in ((model, "fetch-model gemma3-270m"), (template, "fetch-templates")):
        if not os.path.exists(file):
            print(f"skip - {target}: {file} is not there; tools/scripts/{script} gets it")
            sys.exit(77)
    golden = {name: value for name, (_, value) in support.read_safetensors(GOLDEN).items()}
    facts = {name: json.loads(text) for name, text in support.safetensors_header(GOLDEN)[0]["__metadata__"].items()}
    artifact = session.work / "gemma3.ingot"
    if not session.compile(model, artifact, targets=(target,), flags=("--chat-template", template)):
        return
    described = json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)
    origin, ends = described["provenance"]["chat_template"], described["facts"]["end_of_sequence"]
    session.check(origin.startswith(pathlib.Path(template).name + ", xxh3 ") and described["tokenizer"]["chat_template"],
                  f"{target}: ingot inspect names the template's file", origin)
    session.check(END_OF_TURN in ends, f"{target}: <end_of_turn> ends a reply", ends)

    for name in facts:
        part = {"prompt": golden[f"{name}_tokens"], "greedy_tokens": golden[f"{name}_greedy"], "greedy_top": golden[f"{name}_top"]}
        session.greedy_steps(artifact, target, part, "prompt")

    server = serve.Server(session, artifact, "--context", "512", target=target)
    if not session.check(server.ready, f"{target}: ingot serve starts", server.said):
        return
    for name in facts:
        chats(session, server, target, name, facts[name], golden[f"{name}_tokens"].tolist())
    status, _, answer = server.chat(messages=facts["turns"]["messages"], logit_bias={str(END_OF_TURN): 100})
    choice = answer["choices"][0] if status == 200 else {}
    session.check(choice.get("finish_reason") == "stop" and choice["message"]["content"] == "",
                  f"{target}: a reply of <end_of_turn> alone stops and is empty", answer)
    session.check(server.stop() == 0, f"{target}: ingot serve ends")

    question, start = facts["question"]["messages"][0]["content"], facts["question"]["reply"][:WORDS]
    options = ["--context", "512", "--max-tokens", "8", "--temperature", "0", "--device", "emulator", "--target", target]
    done = session.run("ingot", "run", artifact, "--prompt", question, *options)
    session.check(done.returncode == 0 and done.stdout.startswith(start), f"{target}: ingot run answers {start!r}",
                  done.stdout + done.stderr)
    done = subprocess.run([session.bin / "ingot", "chat", artifact, *options], input=f"{question}\n/quit\n", capture_output=True,
                          text=True, timeout=300)
    session.check(done.returncode == 0 and start in done.stdout, f"{target}: ingot chat answers {start!r}", done.stdout + done.stderr)


support.main("chat_template", body)

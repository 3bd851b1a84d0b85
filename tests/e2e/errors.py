#!/usr/bin/env python3
"""Wrong input gets one line that says what is wrong, an exit code that is not 0, and leaves no file behind.

usage: errors.py BUILD_FOLDER"""

import json
import os
import pathlib
import resource
import shutil
import struct

import support

GOLDENS = support.SOURCE / "tests" / "goldens"


def refuses(session, what, done, *words, folder=None):
    """One line on stderr with all `words` (letter case aside), an error's exit code, and an empty output folder."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    left = os.listdir(folder) if folder else []
    good = done.returncode in (1, 2) and len(lines) == 1 and not left
    good = good and all(word.lower() in lines[0].lower() for word in words)
    session.check(good, what, f"exit code {done.returncode}, expected words {words}, left behind {left}, stderr:\n{done.stderr}")


def body(session):
    out = session.work / "out"

    def compile(model, *options, **extra):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        arguments = {"--targets": "gfx1151", "--recipe": "bf16"} | dict(options)
        return session.run("ingotc", "--quiet", model, "-o", out / "model.ingot", *(f"{k}={v}" for k, v in arguments.items()), **extra)

    def variant(name, case="llama-long"):
        folder = session.work / name
        shutil.copytree(GOLDENS / case, folder)
        (folder / "golden.safetensors").unlink()
        return folder

    # Checkpoints.
    gguf = session.work / "whole.gguf"
    support.write_gguf(GOLDENS / "llama-tied-f32", gguf)
    whole = gguf.read_bytes()
    for kept in (len(whole) - 1000, 3000, 100, 10, 0):
        cut = session.work / f"cut-{kept}.gguf"
        cut.write_bytes(whole[:kept])
        refuses(session, f"a GGUF cut to {kept} bytes", compile(cut), cut.name, folder=out)

    def edit_header(name, edit, *words):
        folder = variant(name)
        header, payload = support.safetensors_header(folder / "model.safetensors")
        payload = edit(header, payload) or payload
        support.write_safetensors(folder / "model.safetensors", header, payload)
        refuses(session, f"safetensors: {name}", compile(folder), *words, folder=out)

    norm = "model.layers.1.input_layernorm.weight"

    def past_end(header, payload):
        size = header[norm]["data_offsets"][1] - header[norm]["data_offsets"][0]
        header[norm]["data_offsets"] = [len(payload), len(payload) + size]

    def overlapping(header, payload):
        header[norm]["data_offsets"] = list(header["model.norm.weight"]["data_offsets"])

    def unknown(header, payload):
        header["model.layers.1.mystery.weight"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(payload), len(payload) + 8]}
        return payload + bytes(8)

    def missing(header, payload):
        header.pop(norm)

    def wrong_shape(header, payload):
        first, last = header[norm]["data_offsets"]
        header[norm] |= {"dtype": "F16", "shape": [2, (last - first) // 4]}

    edit_header("offsets past the end", past_end, norm)
    edit_header("overlapping offsets", overlapping, "overlap")
    edit_header("unknown tensor", unknown, "model.layers.1.mystery.weight")
    edit_header("wrong shape", wrong_shape, norm)
    # Taking a tensor out of the header alone would leave a hole, another mistake: write the file anew without it.
    folder = variant("missing tensor")
    header, payload = support.safetensors_header(folder / "model.safetensors")
    kept, moved = b"", {}
    for name, entry in header.items():
        if name not in (norm, "__metadata__"):
            first, last = entry["data_offsets"]
            moved[name] = entry | {"data_offsets": [len(kept), len(kept) + last - first]}
            kept += payload[first:last]
    support.write_safetensors(folder / "model.safetensors", moved, kept)
    refuses(session, "safetensors: missing tensor", compile(folder), norm, folder=out)

    folder = variant("header length past the end")
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 60) + file.read_bytes()[8:])
    refuses(session, "safetensors: header length past the end", compile(folder), file.name, folder=out)

    folder = variant("unknown architecture")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "perceptron", "architectures": ["PerceptronForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    refuses(session, "unknown architecture", compile(folder), "perceptron", folder=out)

    folder = variant("a shard is missing", "mistral-sharded")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refuses(session, "a missing shard", compile(folder), "model-00002-of-00002", folder=out)
    refuses(session, "no such checkpoint", compile(session.work / "nowhere"), "nowhere", folder=out)

    # Recipes and targets.
    model = GOLDENS / "llama-long"
    recipe = session.work / "nothing.textproto"
    recipe.write_text('name: "nothing"\nrules { pattern: "*.router.weight" scheme: "bf16" }\nrules { pattern: "*" scheme: "bf16" }\n')
    refuses(session, "a recipe rule that matches nothing", compile(model, ("--recipe", recipe)), "*.router.weight", folder=out)
    recipe.write_text('name: "odd"\nrules { pattern: "*" scheme: "int3" }\n')
    refuses(session, "a recipe with an unknown scheme", compile(model, ("--recipe", recipe)), "int3", folder=out)
    refuses(session, "an unknown recipe", compile(model, ("--recipe", "w3a3")), "w3a3", folder=out)
    refuses(session, "an unknown target", compile(model, ("--targets", "gfx1151,gfx9999")), "gfx9999", folder=out)

    # Chat templates.
    template = session.work / "odd.jinja"

    def templated(what, content, *words):
        template.write_bytes(content)
        refuses(session, f"a chat template {what}", compile(model, ("--chat-template", template)), template.name, *words, folder=out)

    templated("that is empty", b" \n", "empty")
    templated("of more than 1 MiB", b"x" * (1 << 20) + b"x", "1048576 bytes")
    templated("that is not UTF-8", b"{{ messages }}\xff", "UTF-8")
    templated("with a broken block", b"one\n{% for m in messages %}", "line 2")
    templated("with an unsupported statement", b"one\n\n{% include 'x' %}", "line 3", "include")
    templated("with an unsupported filter on a path not taken", b"{% if false %}\n{{ 'x' | urlize }}{% endif %}", "line 2", "urlize")
    template.write_text("{{ messages[0].content }}")
    refuses(session, "a chat template for a checkpoint without a tokenizer", compile(model, ("--chat-template", template)),
            "--chat-template", "tokenizer", folder=out)
    refuses(session, "a chat template that is not there", compile(model, ("--chat-template", session.work / "none.jinja")),
            "none.jinja", folder=out)
    refuses(session, "a folder as chat template", compile(model, ("--chat-template", model)), model.name, "file", folder=out)

    # A full disk: no file may grow past a few pages.
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    full = compile(model, preexec_fn=little_room, restore_signals=False)
    refuses(session, "disk full while writing", full, folder=out)

    # Artifacts.
    artifact = session.work / "good.ingot"
    if not session.compile(model, artifact, targets=("gfx1201",)):
        return
    good, sections = artifact.read_bytes(), support.artifact_sections(artifact)
    tokens = session.work / "tokens.json"
    tokens.write_text("[3, 4, 5]")

    def load(data, target="gfx1201"):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        broken = session.work / "broken.ingot"
        broken.write_bytes(data)
        return session.run("ingot", "logits", broken, "--tokens", tokens, "-o", out / "logits.safetensors", "--device",
                           "emulator", "--target", target)

    def flipped(at):
        return good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1:]

    whole = load(good)
    session.check(whole.returncode == 0, "the artifact loads while it is whole", whole.stderr)
    names = {1: "manifest", 2: "code", 3: "weights"}
    for kind, name in names.items():
        offset, size = sections[kind]
        refuses(session, f"a flipped byte in the {name}", load(flipped(offset + size // 2)), "checksum", folder=out)
    contents, = struct.unpack_from("<Q", good, 16)
    refuses(session, "a flipped byte in the table of contents", load(flipped(contents + 9)), folder=out)
    refuses(session, "a flipped byte in the magic", load(flipped(1)), folder=out)
    for lost in (1, 4096, len(good) // 2, len(good) - 40, len(good)):
        refuses(session, f"a tail of {lost} bytes cut off", load(good[:len(good) - lost]), folder=out)
    version, = struct.unpack_from("<I", good, 8)
    refuses(session, "a newer version", load(good[:8] + struct.pack("<I", version + 1) + good[12:]), "version", str(version + 1),
            folder=out)
    refuses(session, "made for another chip only", load(good, "gfx1151"), "gfx1201", folder=out)
    tokens.write_text("[3, 97, 5]")
    refuses(session, "a token id outside the vocabulary", load(good), "97", folder=out)
    tokens.write_text("[]")
    refuses(session, "no tokens", load(good), folder=out)
    tokens.write_text("{")
    refuses(session, "tokens that are not JSON", load(good), "tokens.json", folder=out)
    usage = session.run("ingot", "run")
    session.check(usage.returncode == 2, "wrong usage has exit code 2", usage.stderr)


support.main("errors", body)

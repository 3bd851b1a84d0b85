#!/usr/bin/env python3
"""The file that ingotc writes: the same bytes every time, a code section that the field's own tools read, and nothing
beside it.

usage: artifact.py BUILD_FOLDER"""

import json
import os
import pathlib
import subprocess

import support

TOOLS = pathlib.Path("/usr/lib/llvm-22/bin")


def tool(name, *arguments):
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True)


def body(session):
    model = support.SOURCE / "models" / "trained" / "tiny-llama"
    first, second = session.work / "first.ingot", session.work / "elsewhere" / "second.ingot"
    second.parent.mkdir()
    if not session.compile(model, first, "w8a8") or not session.compile(model, second, "w8a8"):
        return
    session.check(first.read_bytes() == second.read_bytes(), "a second compile gives the same bytes")
    session.check(sorted(os.listdir(session.work)) == ["elsewhere", "first.ingot"], "nothing is left beside the file",
                  os.listdir(session.work))

    offset, size = support.artifact_sections(first)[2]
    bundle = session.work / "code.bundle"
    bundle.write_bytes(first.read_bytes()[offset:offset + size])
    listed = tool("clang-offload-bundler", "--type=o", "--list", f"--input={bundle}")
    entries = listed.stdout.split()
    described = session.run("ingot", "inspect", first, "--json")
    session.check(described.returncode == 0, "ingot inspect --json", described.stderr)
    json.loads(described.stdout)
    for target in support.TARGETS:
        entry = next((one for one in entries if one.endswith(target)), None)
        if not session.check(entry is not None, f"clang-offload-bundler --list names {target}", listed.stdout + listed.stderr):
            continue
        code = session.work / f"{target}.hsaco"
        done = tool("clang-offload-bundler", "--type=o", "--unbundle", f"--input={bundle}", f"--targets={entry}",
                    f"--output={code}")
        session.check(done.returncode == 0, f"clang-offload-bundler unbundles {entry}", done.stderr)
        text = tool("llvm-objdump", "-d", str(code)).stdout
        kernels = text.count("s_endpgm")
        session.check(kernels >= 10 and f"<unknown>" not in text, f"llvm-objdump disassembles {target}'s kernels", kernels)


support.main("artifact", body)

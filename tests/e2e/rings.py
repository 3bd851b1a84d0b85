#!/usr/bin/env python3
"""Caches of layers with a window as rings: the same logits bit for bit as with caches that keep everything, by prefill in
chunks and by steps, where the ring wraps several times; and the memory that the manifest states does not grow with them.

usage: rings.py BUILD_FOLDER CASE"""

import json

import support

CHUNK = 16  # so that a ring of the window and a chunk wraps in a few hundred positions


def memory(session, artifact):
    return json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)["memory"]


def body(session, case):
    folder = support.SOURCE / "tests" / "goldens" / case
    tokens = support.read_safetensors(folder / "golden.safetensors")["tokens"][1].tolist()
    flags = [f"--prefill-chunk={CHUNK}"]
    rings, whole = session.work / "rings.ingot", session.work / "whole.ingot"
    if not session.compile(folder, rings, flags=flags) or \
       not session.compile(folder, whole, flags=[*flags, "--disable-pass=ring-caches"]):
        return
    for target in support.TARGETS:
        for steps in (False, True):
            got, wanted = (session.logits(artifact, tokens, target, steps=steps) for artifact in (rings, whole))
            same = got is not None and wanted is not None and \
                all(a.tobytes() == b.tobytes() for a, b in zip(got, wanted, strict=True))
            session.check(same, f"{case}, {target}, {len(tokens)} tokens by {'steps' if steps else 'prefill'}: the same bits")
    less, all_of_it = memory(session, rings), memory(session, whole)
    session.check(less["bytes_per_position"] < all_of_it["bytes_per_position"] and
                  less["bytes_at_full_context"] < all_of_it["bytes_at_full_context"],
                  f"{case}: {less['bytes_per_position']} bytes a position, {all_of_it['bytes_per_position']} without rings")


support.main("rings", body)

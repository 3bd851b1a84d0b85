#!/usr/bin/env python3
"""A GGUF file and a Hugging Face folder of the same weights give the same logits, bit for bit: names, the permuted q and k
rows and the metadata are all put back.

usage: gguf.py BUILD_FOLDER [CASE FILE.gguf]

Without a case a Llama is written as a GGUF here; a case of tests/goldens has its file in tests/goldens/gguf."""

import support

GOLDENS = support.SOURCE / "tests" / "goldens"


def body(session, case="llama-tied-f32", file=None):
    folder = GOLDENS / case
    tokens = support.read_safetensors(folder / "golden.safetensors")["tokens"][1].tolist()[:70]
    gguf = GOLDENS / "gguf" / file if file else session.work / "model.gguf"
    if not file:
        support.write_gguf(folder, gguf)
    for recipe in ("bf16", "w8a8"):
        artifacts = [session.work / f"{name}-{recipe}.ingot" for name in ("folder", "gguf")]
        if not all([session.compile(model, artifact, recipe, what=f"ingotc compiles the {artifact.stem.split('-')[0]} as {recipe}")
                    for model, artifact in zip((folder, gguf), artifacts)]):
            continue
        for target in support.TARGETS:
            outputs = [session.logits(artifact, tokens, target) for artifact in artifacts]
            session.check(outputs[0] is not None and outputs[0] == outputs[1],
                          f"{case}, {recipe}, {target}: the GGUF's logits are the folder's")


support.main("gguf", body)

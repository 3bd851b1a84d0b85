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
        outputs = []
        for model, name in ((folder, "folder"), (gguf, "gguf")):
            artifact = session.work / f"{name}-{recipe}.ingot"
            if session.compile(model, artifact, recipe, targets=("gfx1151",), what=f"ingotc compiles the {name} as {recipe}"):
                outputs.append(session.logits(artifact, tokens, "gfx1151"))
        session.check(len(outputs) == 2 and outputs[0] is not None and outputs[0] == outputs[1],
                      f"{case}, {recipe}: the GGUF's logits are the folder's")


support.main("gguf", body)

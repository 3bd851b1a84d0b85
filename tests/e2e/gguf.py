#!/usr/bin/env python3
"""A GGUF file and a Hugging Face folder of the same weights give the same logits, bit for bit: names, the permuted q and k
rows and the metadata are all put back.

usage: gguf.py BUILD_FOLDER"""

import support


def body(session):
    folder = support.SOURCE / "tests" / "goldens" / "llama-tied-f32"
    tokens = support.read_safetensors(folder / "golden.safetensors")["tokens"][1].tolist()[:70]
    gguf = session.work / "model.gguf"
    support.write_gguf(folder, gguf)
    for recipe in ("bf16", "w8a8"):
        outputs = []
        for model, name in ((folder, "folder"), (gguf, "gguf")):
            artifact = session.work / f"{name}-{recipe}.ingot"
            if session.compile(model, artifact, recipe, targets=("gfx1151",), what=f"ingotc compiles the {name} as {recipe}"):
                outputs.append(session.logits(artifact, tokens, "gfx1151"))
        session.check(len(outputs) == 2 and outputs[0] is not None and outputs[0] == outputs[1],
                      f"{recipe}: the GGUF's logits are the folder's")


support.main("gguf", body)

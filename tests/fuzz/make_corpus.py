#!/usr/bin/env python3
"""Writes the first inputs of corpus/ from the checkpoints and recipes that the other tests use.

usage: make_corpus.py [PACK_BENCH]      with the program, the artifact's input too

What the fuzzers find is added by `tools/scripts/fuzz --keep`.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
CORPUS = HERE / "corpus"


def put(reader, name, data):
    folder = CORPUS / reader
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def quantized(folder):
    """The input of fuzz_quantized that describes the same tensors."""
    data = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    lines = [" ".join([name, entry["dtype"], *map(str, entry["shape"])])
             for name, entry in header.items() if name != "__metadata__"]
    # Filling bytes of a shape's own numbers, so that weight_shape and g_idx can be right: 64-bit extents.
    extents = next((entry["shape"] for name, entry in header.items() if name.endswith("weight_packed")), [0, 0])
    fill = struct.pack("<QQ", extents[0], extents[1] * 8) if extents[0] else bytes([0] * 4 + [0x77] * 4)
    config = json.dumps(json.loads((folder / "config.json").read_text()), separators=(",", ":"))
    return config.encode() + b"\0" + "\n".join(lines).encode() + b"\0" + fill


def main(pack_bench=None):
    put("gguf", "tiny", (TESTS / "checkpoint/tiny.gguf").read_bytes())
    for folder in sorted((TESTS / "checkpoint/quantized").iterdir()):
        put("quantized", folder.name, quantized(folder))
        if (folder / "model.safetensors").stat().st_size < 3000:
            put("safetensors", folder.name, (folder / "model.safetensors").read_bytes())
    for recipe in sorted((TESTS.parent / "models/recipes").glob("*.textproto")):
        put("recipe", recipe.stem, recipe.read_bytes())
    tiny = TESTS / "checkpoint/tiny"
    template = (TESTS / "tokenizer/templates/chatml.jinja").read_bytes()
    put("tokenizer", "bpe", (tiny / "tokenizer_config.json").read_bytes() + b"\0" + template + b"\0j\0"
        + (tiny / "tokenizer.json").read_bytes())
    # A SentencePiece model: pieces with scores and types, a trainer of BPE, a normaliser.
    def piece(text, score, kind):
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body
    pieces = [(b"<unk>", 0, 2), (b"<s>", 0, 3), (b"</s>", 0, 3)]
    pieces += [(b"<0x%02X>" % value, 0, 6) for value in (0x0A, 0x20, 0xF0)]
    pieces += [(text.encode(), -float(i), 1) for i, text in enumerate("▁ ▁t t h e ▁th he ▁the c a ca cat".split(" "))]
    model = b"".join(piece(*entry) for entry in pieces) + b"\x12\x02\x18\x02" + b"\x1a\x02\x18\x01"
    put("tokenizer", "sentencepiece", b'{"add_bos_token":true}\0\0m\0' + model)
    if pack_bench:
        small = HERE / "artifact-input"
        shutil.rmtree(small, ignore_errors=True)
        small.mkdir()
        name, values = "model.norm.weight", b"\x80\x3f" * 8
        header = json.dumps({name: {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}).encode()
        (small / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + values)
        (small / "config.json").write_text("{}")
        subprocess.run([pack_bench, "pack", small, "bf16", small / "out"], check=True)
        put("artifact", "small", (small / "out").read_bytes())
        shutil.rmtree(small)


if __name__ == "__main__":
    main(*sys.argv[1:])

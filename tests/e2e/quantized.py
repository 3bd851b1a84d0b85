#!/usr/bin/env python3
"""A checkpoint that is stored quantised (compressed-tensors int8, made here from the trained one): compiled in the same scheme it
loses nothing, in another it is said; and `--explain-quant` prints the errors that Python works out from the same tensors.

usage: quantized.py BUILD_FOLDER"""

import array
import json
import struct

import support

SOURCE = support.SOURCE / "models" / "trained" / "tiny-llama"
# Every linear of the layers as the checkpoint has it; the tied table and head as bf16.
RECIPE = """name: "same"
rules { pattern: "model.layers.*" scheme: "w8a8" }
rules { pattern: "*" scheme: "bf16" }
"""
CONFIG = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
          "ignore": ["lm_head"], "config_groups": {"group_0": {
              "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
              "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True},
              "output_activations": None}}}


def bf16(raw):
    halves = array.array("H")
    halves.frombytes(raw)
    return array.array("f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))


def rounded(value):
    """To bf16 and back."""
    bits, = struct.unpack("<I", struct.pack("<f", value))
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16))[0]


def quantize(values, rows, columns):
    """int8 codes and bf16 scales a row, with a scale that is not the absmax's: what no other quantiser would come to."""
    codes, scales = bytearray(), []
    for r in range(rows):
        row = values[r * columns:(r + 1) * columns]
        scale = rounded(max(map(abs, row)) / 110)
        scales.append(scale)
        codes += struct.pack(f"{columns}b", *(max(-128, min(127, round(x / scale))) for x in row))
    return bytes(codes), struct.pack(f"<{rows}H", *(struct.unpack("<I", struct.pack("<f", s))[0] >> 16 for s in scales)), scales


def make(folder):
    """Returns {name: (values the codes stand for, values before)} of a few tensors."""
    header, payload = support.safetensors_header(SOURCE / "model.safetensors")
    header.pop("__metadata__", None)
    made, parts, offset, seen = {}, [], 0, {}

    def add(name, dtype, shape, raw):
        nonlocal offset
        made[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)
        offset += len(raw)

    for name, entry in header.items():
        first, last = entry["data_offsets"]
        raw = payload[first:last]
        if "_proj." not in name:
            add(name, entry["dtype"], entry["shape"], raw)
            continue
        rows, columns = entry["shape"]
        values = bf16(raw) if entry["dtype"] == "BF16" else array.array("f", raw)
        codes, scales, numbers = quantize(values, rows, columns)
        add(name, "I8", [rows, columns], codes)
        add(name + "_scale", "BF16", [rows, 1], scales)
        if len(seen) < 4:
            seen[name] = [numbers[i // columns] * code for i, code in enumerate(array.array("b", codes))]
    folder.mkdir(exist_ok=True)
    config = json.loads((SOURCE / "config.json").read_text()) | {"quantization_config": CONFIG}
    (folder / "config.json").write_text(json.dumps(config))
    support.write_safetensors(folder / "model.safetensors", made, b"".join(parts))
    return seen


def table(text):
    """{weight: (stored, scheme, error)} of --explain-quant."""
    rows = {}
    for line in text.splitlines()[1:-1]:
        name, stored, scheme, _, error, *_ = line.split()
        rows[name] = stored, scheme, float(error)
    return rows


def body(session):
    folder = session.work / "checkpoint"
    seen = make(folder)
    recipe = session.work / "same.textproto"
    recipe.write_text(RECIPE)
    found = {}
    for what, name in (("same", recipe), ("bf16", "bf16"), ("grouped", "w8a8")):
        done = session.run("ingotc", folder, "-o", session.work / f"{what}.ingot", f"--recipe={name}", "--explain-quant")
        if not session.check(done.returncode == 0, f"compiles the quantised checkpoint, recipe {what}", done.stderr):
            return
        warned = "are rounded a second time" in done.stderr
        session.check(warned == (what != "same"), f"recipe {what}: {'a' if warned else 'no'} warning of a second rounding",
                      done.stderr)
        found[what] = table(done.stdout)
    for name, values in seen.items():
        stored, scheme, error = found["same"][name]
        session.check((scheme, error) == ("w8a8", 0), f"{name}: codes and scales as they are ({stored}, {scheme}, error {error})")
        wanted = (sum((x - rounded(x)) ** 2 for x in values) / sum(x * x for x in values)) ** 0.5
        error = found["bf16"][name][2]
        session.check(abs(error - wanted) <= 0.01 * wanted, f"{name}: error of bf16 {error:.2e}, by Python {wanted:.2e}")
    for target in support.TARGETS:
        done = session.run("ingot-compare", session.work / "same.ingot", folder, "--recipe", recipe, "--target", target,
                           "--device", "emulator")
        session.check(done.returncode == 0, f"{target}: each op is the interpreter's, on the stored codes",
                      done.stdout + done.stderr)
    tokens = [(7 * i * i + 3) % 1000 for i in range(9)]
    for target in support.TARGETS:
        same, wide = (session.logits(session.work / f"{what}.ingot", tokens, target) for what in ("same", "bf16"))
        if same and wide:
            error = support.relative_l2(same, wide)
            # What is left is the rounding of activations to int8 (and of weights to bf16).
            session.check(error < 0.1, f"{target}: logits in the stored scheme within {error:.3f} of bf16's (< 0.1)")


support.main("quantized", body)

#!/usr/bin/env python3
"""Checkpoints that are stored quantised, made here from the trained one as the tools that quantise write them: whatever the
recipe, codes and scales stay as they are (`--explain-quant`: error 0), and every op on both chips is the interpreter's. Codes
that a table would need in bf16 are rounded again, and it is said.

usage: quantized.py BUILD_FOLDER"""

import array
import bisect
import json
import struct

import support

SOURCE = support.SOURCE / "models" / "trained" / "tiny-llama"
LAYERS = 2  # that are quantised; the others stay as they are
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def compressed(form, weights, activations=None):
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": activations,
                                          "output_activations": None}}}


def widened(raw, kind):
    """bf16 bytes as floats."""
    assert kind == "BF16"
    halves = array.array("H")
    halves.frombytes(raw)
    return array.array("f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))


def as_bf16(values):
    """Rounded half to even: the bytes, and the numbers they stand for."""
    bits = [struct.unpack("<I", struct.pack("<f", value))[0] for value in values]
    halves = [(b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits]
    raw = struct.pack(f"<{len(halves)}H", *halves)
    return raw, widened(raw, "BF16")


def as_f16(values):
    raw = struct.pack(f"<{len(values)}e", *values)
    return raw, struct.unpack(f"<{len(values)}e", raw)


def e4m3(value):
    """The byte of the nearest E4M3 number, of two as near the even one."""
    above = min(bisect.bisect_left(E4M3, abs(value), hi=0x7F), 0x7E)
    code = min((above, max(above - 1, 0)), key=lambda byte: (abs(E4M3[byte] - abs(value)), byte & 1))
    return code | (0x80 if value < 0 else 0)


E4M3 = [(mantissa / 8 + (1 if exponent else 0)) * 2.0 ** (max(exponent, 1) - 7) for exponent in range(16) for mantissa in range(8)]


def words(fields, bits):
    """Runs of 32 / bits fields, the first lowest, as bytes of int32."""
    count = 32 // bits
    return struct.pack(f"<{len(fields) // count}I",
                       *(sum(fields[i + j] << bits * j for j in range(count)) for i in range(0, len(fields), count)))


def split(rows, group):
    return [[row[k:k + group] for k in range(0, len(row), group)] for row in rows]


# Each takes rows of floats and gives {suffix: (type, shape, bytes)}. The numbers they stand for are checked in
# tests/checkpoint; here it is enough that they are near the trained ones, and no other quantiser's.


def w8a8(rows):
    raw, scales = as_bf16([max(map(abs, row)) / 110 for row in rows])
    codes = [max(-128, min(127, round(x / scale))) for row, scale in zip(rows, scales) for x in row]
    return {"weight": ("I8", [len(rows), len(rows[0])], struct.pack(f"{len(codes)}b", *codes)),
            "weight_scale": ("BF16", [len(rows), 1], raw)}


def int8_tensor(rows):
    raw, (scale,) = as_bf16([max(abs(x) for row in rows for x in row) / 127])
    codes = [max(-128, min(127, round(x / scale))) for row in rows for x in row]
    return {"weight": ("I8", [len(rows), len(rows[0])], struct.pack(f"{len(codes)}b", *codes)),
            "weight_scale": ("BF16", [1], raw)}


def awq(rows, group=32):
    n, groups = len(rows), split(rows, group)
    low = [[min(0, *part) for part in row] for row in groups]
    # Group by group over the rows, as the scales lie.
    raw, flat = as_f16([(max(0, *groups[r][g]) - low[r][g]) / 15 for g in range(len(groups[0])) for r in range(n)])
    scale = [flat[g * n:(g + 1) * n] for g in range(len(groups[0]))]
    zero = [[max(0, min(15, round(-low[r][g] / scale[g][r]))) for r in range(n)] for g in range(len(scale))]
    code = [[max(0, min(15, round(rows[r][k] / scale[k // group][r]) + zero[k // group][r])) for r in range(n)]
            for k in range(len(rows[0]))]

    def shuffled(lines):
        return words([line[i + j] for line in lines for i in range(0, n, 8) for j in AWQ_ORDER], 4)

    return {"qweight": ("I32", [len(code), n // 8], shuffled(code)), "qzeros": ("I32", [len(zero), n // 8], shuffled(zero)),
            "scales": ("F16", [len(scale), n], raw)}


def gptq8(rows, group=64, order=None):
    """Symmetric int8. `order`: act-order, the group of each column."""
    n, k = len(rows), len(rows[0])
    order = order or [column // group for column in range(k)]
    count = max(order) + 1
    members = [[c for c in range(k) if order[c] == g] for g in range(count)]
    raw, flat = as_f16([max(abs(rows[r][c]) for c in members[g]) / 120 for g in range(count) for r in range(n)])
    code = [[round(rows[r][c] / flat[order[c] * n + r]) + 128 for r in range(n)] for c in range(k)]
    packed = words([code[c + j][r] for c in range(0, k, 4) for r in range(n) for j in range(4)], 8)
    return {"qweight": ("I32", [k // 4, n], packed), "qzeros": ("I32", [count, n // 4], words([127] * (count * n), 8)),
            "scales": ("F16", [count, n], raw), "g_idx": ("I32", [k], struct.pack(f"<{k}i", *order))}


def packed4(rows, group=128):
    n, k, groups = len(rows), len(rows[0]), split(rows, group)
    raw, scales = as_bf16([max(map(abs, part)) / 7.5 for row in groups for part in row])
    per = k // group
    code = [max(-8, min(7, round(rows[r][c] / scales[r * per + c // group]))) + 8 for r in range(n) for c in range(k)]
    return {"weight_packed": ("I32", [n, k // 8], words(code, 4)), "weight_scale": ("BF16", [n, per], raw),
            "weight_shape": ("I64", [2], struct.pack("<2q", n, k))}


def fp8(rows, block=None):
    n, k = len(rows), len(rows[0])
    height, width = block or (n, k)
    across = -(-k // width)
    scales = [max(abs(x) for row in rows[r:r + height] for x in row[c:c + width]) / 448
              for r in range(0, n, height) for c in range(0, k, width)]
    raw = struct.pack(f"<{len(scales)}f", *scales)
    codes = bytes(e4m3(rows[r][c] / scales[r // height * across + c // width]) for r in range(n) for c in range(k))
    shape = [-(-n // height), across] if block else []
    parts = {"weight": ("F8_E4M3", [n, k], codes), "weight_scale_inv": ("F32", shape, raw)}
    return parts if block else parts | {"activation_scale": ("F32", [], struct.pack("<f", 1.0))}


# name: (quantization_config, quantiser, the scheme it should have).
CASES = {
    "int8 a channel and token (compressed-tensors)": (
        compressed("int-quantized", {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
                   {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}), w8a8, "w8a8"),
    "int4 with zeros (AWQ)": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}, awq, "int4_g32_zp"),
    "int8 groups (GPTQ)": ({"quant_method": "gptq", "bits": 8, "group_size": 64, "sym": True, "desc_act": False}, gptq8,
                           "int8_g64"),
    "int4 groups (compressed-tensors)": (
        compressed("pack-quantized", {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group",
                                      "group_size": 128}), packed4, ("int4_g128_bf16", "int4")),
    "blocks of FP8": ({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
                      lambda rows: fp8(rows, (128, 128)), ("fp8_g128_bands", "fp8_bands")),
    "act-order (GPTQ)": (
        {"quant_method": "gptq", "bits": 8, "group_size": 64, "sym": True, "desc_act": True},
        lambda rows: gptq8(rows, 64, [5 * c % len(rows[0]) // 64 for c in range(len(rows[0]))]), "int8_g64"),
    "FP8 a tensor": ({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}, fp8, "fp8_bands"),
}


def make(folder, config, quantise, layers=LAYERS):
    """Writes the checkpoint; returns {name: floats before} of the quantised tensors."""
    header, payload = support.safetensors_header(SOURCE / "model.safetensors")
    header.pop("__metadata__", None)
    made, parts, offset, before = {}, [], 0, {}
    for name, entry in header.items():
        raw = payload[slice(*entry["data_offsets"])]
        tensors = {name: (entry["dtype"], entry["shape"], raw)}
        if "_proj." in name and int(name.split(".")[2]) < layers:
            rows, columns = entry["shape"]
            before[name] = widened(raw, entry["dtype"])
            linear = name.removesuffix("weight")
            tensors = {linear + suffix: part for suffix, part in
                       quantise([before[name][r * columns:(r + 1) * columns] for r in range(rows)]).items()}
        for tensor, (kind, shape, raw) in tensors.items():
            made[tensor] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + len(raw)]}
            parts.append(raw)
            offset += len(raw)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(
        json.loads((SOURCE / "config.json").read_text()) | {"quantization_config": config}))
    support.write_safetensors(folder / "model.safetensors", made, b"".join(parts))
    return before


def experts(session):
    """Weights of rank 3: an int8 row of an expert is rounded as one of a matrix is."""
    model, artifact = support.SOURCE / "models" / "trained" / "tiny-qwen3.6-moe", session.work / "experts.ingot"
    done = session.run("ingotc", model, "-o", artifact, "--recipe=qwen3.6-w8a8", "--explain-quant", "--targets=gfx1151")
    if not session.check(done.returncode == 0, "experts: compiles", done.stderr):
        return
    bytes_of = {line.split()[0]: int(line.split()[3]) for line in done.stdout.splitlines()[1:-1]}
    inspected = {weight["name"]: weight for weight in
                 json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)["weights"]}
    header, payload = support.safetensors_header(model / "model.safetensors")
    found = support.explained(done.stdout)
    for layer in (0, 3):
        name = f"model.layers.{layer}.mlp.experts.down_proj"
        begin, end = header[name]["data_offsets"]
        values, columns = widened(payload[begin:end], header[name]["dtype"]), header[name]["shape"][-1]
        difference = 0
        for row in (values[i:i + columns] for i in range(0, len(values), columns)):
            scale = max(map(abs, row)) / 127
            difference += sum((x - scale * round(x / scale)) ** 2 for x in row) if scale else 0
        wanted = (difference / sum(x * x for x in values)) ** 0.5
        scheme, error, rule = found[f"{name}.weight"]
        session.check(scheme == "w8a8" and abs(error / wanted - 1) < 0.01 and rule.startswith("model.layers.*"),
                      f"experts: {name} is {scheme}, error {error:.2e} (Python: {wanted:.2e}), by rule {rule}")
        session.check(bytes_of[f"{name}.weight"] == inspected[f"{name}.weight"]["bytes"] > 0 and
                      inspected[f"{name}.weight"]["shape"] == header[name]["shape"],
                      f"experts: {name} has the bytes and the shape of ingot inspect", inspected[f"{name}.weight"])


def body(session):
    tokens = [(7 * i * i + 3) % 1000 for i in range(9)]
    trained = session.work / "trained.ingot"
    session.compile(SOURCE, trained)
    wanted = {target: session.logits(trained, tokens, target) for target in support.TARGETS}
    for what, (config, quantise, schemes) in CASES.items():
        folder, artifact = session.work / "checkpoint", session.work / "quantized.ingot"
        names = make(folder, config, quantise)
        done = session.run("ingotc", folder, "-o", artifact, "--recipe=bf16", "--explain-quant")
        if not session.check(done.returncode == 0, f"{what}: compiles", done.stderr):
            continue
        session.check("second time" not in done.stderr, f"{what}: nothing is rounded a second time", done.stderr)
        found = support.explained(done.stdout)
        schemes = [schemes] if isinstance(schemes, str) else schemes
        wrong = {name: found[name] for name in names
                 if found[name][0] not in schemes or found[name][1:] != (0, "the checkpoint's own")}
        session.check(not wrong, f"{what}: {len(names)} weights have scheme {' or '.join(schemes)} and error 0", wrong)
        for target in support.TARGETS:
            done = session.run("ingot-compare", artifact, folder, "--target", target, "--device", "emulator")
            session.check(done.returncode == 0, f"{what}, {target}: each op is the interpreter's", done.stdout + done.stderr)
            got = session.logits(artifact, tokens, target)
            if got and wanted[target]:
                error = support.relative_l2(got, wanted[target])
                # Two layers of eight are rounded, to four bits or eight; a wrong scale or zero gives errors of 1.
                session.check(error < 0.25, f"{what}, {target}: logits within {error:.3f} of the trained model's (< 0.25)")

    experts(session)

    what = "int8 with one scale a tensor, which no linear reads"
    make(folder, compressed("int-quantized", {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor"}),
         int8_tensor, layers=1)
    done = session.run("ingotc", folder, "-o", artifact, "--recipe=bf16")
    session.check(done.returncode == 0 and "7 weights are stored quantised" in done.stderr,
                  f"{what}: seven weights are rounded again, and it is said", done.stderr)


support.main("quantized", body)

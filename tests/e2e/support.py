"""What the end-to-end scripts share: running the built programs, safetensors and GGUF files, measures of difference, and
one line of verdict a case ("ok - ..." or "not ok - ..."), which tools/scripts/summarise counts. Python's standard library
only, so that the tests need nothing that the build does not."""

import array
import json
import math
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import traceback

SOURCE = pathlib.Path(__file__).resolve().parents[2]
TARGETS = ("gfx1151", "gfx1201")
# A first greedy difference counts as a tie where the two logits are this close, in transformers and here.
NEAR_TIE = 0.05


class Session:
    """The verdicts of one script. `bin` is the build's program folder and `work` an empty folder of the script's own."""

    def __init__(self, build, name):
        self.build = pathlib.Path(build).resolve()
        self.bin = self.build / "bin"
        self.work = self.build / "e2e" / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.failures = 0

    def check(self, good, what, detail=""):
        print(("ok - " if good else "not ok - ") + what, flush=True)
        if not good:
            self.failures += 1
            if detail:
                print("  # " + str(detail).strip().replace("\n", "\n  # "), flush=True)
        return good

    def run(self, program, *arguments, timeout=600, **options):
        """Runs a program of the build; the answer has returncode, stdout and stderr. A hang ends the case, not the script."""
        command = [str(self.bin / program), *map(str, arguments)]
        try:
            return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout,
                                  stdin=subprocess.DEVNULL, **options)
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(command, 124, "", f"no end after {error.timeout} s: {' '.join(command)}")
        except OSError as error:
            return subprocess.CompletedProcess(command, 127, "", str(error))

    def compile(self, model, artifact, recipe="bf16", targets=TARGETS, what=None, flags=(), streams=1):
        """`streams`: None leaves it to ingotc."""
        done = self.run("ingotc", model, "-o", artifact, f"--targets={','.join(targets)}", f"--recipe={recipe}",
                        *([f"--streams={streams}"] if streams else []), *flags)
        good = done.returncode == 0 and pathlib.Path(artifact).exists()
        return self.check(good, what or f"ingotc compiles {pathlib.Path(model).name} as {recipe}", done.stderr)

    def fusions(self):
        """The passes that ingotc can leave out, as its help lists them."""
        return re.search(r"--disable-pass[^{]*{([^}]*)}", self.run("ingotc", "--help").stdout).group(1).split(",")

    def logits(self, artifact, tokens, target, steps=False, draft=False):
        """Rows of logits, one array('f') a token; None after a failure, which has been reported. `draft`: of the head that
        drafts."""
        name = f"{len(tokens)}-{target}-{'steps' if steps else 'draft' if draft else 'prefill'}"
        ids, out = self.work / f"{name}.json", self.work / f"{name}.safetensors"
        ids.write_text(json.dumps(list(tokens)))
        done = self.run("ingot", "logits", artifact, "--tokens", ids, "-o", out, "--device", "emulator", "--target", target,
                        *(["--steps"] if steps else ["--draft"] if draft else []))
        if done.returncode != 0:
            self.check(False, f"ingot logits, {name}", done.stderr)
            return None
        found = read_safetensors(out)
        out.unlink()
        if "logits" not in found:
            self.check(False, f"ingot logits, {name}: the file holds `logits`", sorted(found))
            return None
        shape, values = found["logits"]
        if len(shape) != 2 or shape[0] != len(tokens):
            self.check(False, f"ingot logits, {name}: one row a token", shape)
            return None
        return [values[row * shape[1]:(row + 1) * shape[1]] for row in range(shape[0])]

    def greedy_steps(self, artifact, target, golden, prompt):
        """Decodes step by step what greedy decoding would after the tokens under `prompt`, until the first token that differs
        from transformers'."""
        start, greedy = golden[prompt].tolist(), golden["greedy_tokens"].tolist()
        rows = self.logits(artifact, start + greedy[:-1], target, steps=True)
        if rows is None:
            return
        for step, row in enumerate(rows[len(start) - 1:]):
            chosen = max(range(len(row)), key=row.__getitem__)
            if chosen != greedy[step]:
                gap = row[chosen] - row[greedy[step]]
                golden_gap = golden["greedy_top"][2 * step] - golden["greedy_top"][2 * step + 1]
                self.check(max(gap, golden_gap) <= NEAR_TIE,
                           f"{target}: {step} greedy tokens are transformers', then a tie: the two logits are {golden_gap:.4f} "
                           f"apart there, {gap:.4f} here (limit {NEAR_TIE})")
                return
        self.check(True, f"{target}: {len(greedy)} greedy tokens are transformers'")


def main(name, body):
    """Runs body(session, arguments...) for `SCRIPT BUILD_FOLDER [ARGUMENT...]`."""
    build, *arguments = sys.argv[1:]
    session = Session(build, "-".join([name, *(os.path.basename(argument) for argument in arguments)]))
    try:
        body(session, *arguments)
    except Exception:
        session.check(False, f"{name} runs to its end", traceback.format_exc())
    if session.failures == 0:
        shutil.rmtree(session.work, ignore_errors=True)
    sys.exit(1 if session.failures else 0)


def explained(text):
    """{weight: (scheme, error, rule)} of what `ingotc --explain-quant` prints."""
    rows = {}
    for line in text.splitlines()[1:-1]:
        name, _, scheme, _, error, _, rule = line.split(None, 6)
        rows[name] = scheme, float(error), rule
    return rows


# --- files -----------------------------------------------------------------------------------------------------------

TYPECODES = {"F32": "f", "I64": "q", "I32": "i"}


def read_safetensors(path):
    """{name: (shape, array)} of the F32, I32 and I64 tensors; other types come back as bytes."""
    data = pathlib.Path(path).read_bytes()
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        raw = data[8 + size + first:8 + size + last]
        if entry["dtype"] in TYPECODES:
            values = array.array(TYPECODES[entry["dtype"]])
            values.frombytes(raw)
            raw = values
        found[name] = (entry["shape"], raw)
    return found


def safetensors_header(path):
    data = pathlib.Path(path).read_bytes()
    size, = struct.unpack_from("<Q", data)
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_safetensors(path, header, payload):
    """The header as given, right or wrong: tests of broken files are written with this too."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + payload)


def gguf_value(value):
    if isinstance(value, str):
        text = value.encode()
        return struct.pack("<IQ", 8, len(text)) + text
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value)


GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def write_gguf(folder, path):
    """An F32 Hugging Face folder (one file, rotate-half RoPE) as a GGUF file: names translated, q and k rows permuted."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
    facts = {"general.architecture": "llama", "general.name": folder.name,
             "llama.block_count": config["num_hidden_layers"], "llama.context_length": config["max_position_embeddings"],
             "llama.embedding_length": config["hidden_size"], "llama.feed_forward_length": config["intermediate_size"],
             "llama.attention.head_count": config["num_attention_heads"],
             "llama.attention.head_count_kv": config["num_key_value_heads"],
             "llama.attention.key_length": config["head_dim"], "llama.attention.value_length": config["head_dim"],
             "llama.rope.dimension_count": config["head_dim"], "llama.rope.freq_base": float(rope["rope_theta"]),
             "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
             "llama.vocab_size": config["vocab_size"], "general.alignment": 32}
    tensors, payload = b"", b""
    found = read_safetensors(folder / "model.safetensors")
    for name, (shape, values) in found.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            columns, half = shape[1], config["head_dim"] // 2
            permuted = array.array("f")
            for first in range(0, shape[0], 2 * half):
                for i in range(half):
                    for h in range(2):
                        row = first + h * half + i
                        permuted.extend(values[row * columns:(row + 1) * columns])
            values = permuted
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            module, suffix = rest.rsplit(".", 1)
            name = f"blk.{layer}.{GGUF_NAMES[module]}.{suffix}"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                    "lm_head.weight": "output.weight"}[name]
        text = name.encode()
        tensors += struct.pack("<Q", len(text)) + text + struct.pack("<I", len(shape))
        tensors += b"".join(struct.pack("<Q", extent) for extent in reversed(shape)) + struct.pack("<IQ", 0, len(payload))
        payload += values.tobytes()
        payload += b"\0" * (-len(payload) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(found), len(facts))
    for key, value in facts.items():
        head += struct.pack("<Q", len(key)) + key.encode() + gguf_value(value)
    head += tensors
    path.write_bytes(head + b"\0" * (-len(head) % 32) + payload)


def artifact_sections(path):
    """{kind: (offset, bytes)} of a .ingot file, as docs/design/artifact.md lays it out."""
    data = pathlib.Path(path).read_bytes()
    count, contents = struct.unpack_from("<IQ", data, 12)
    entries = (struct.unpack_from("<IIQQQ", data, contents + 32 * index) for index in range(count))
    return {kind: (offset, size) for kind, _, offset, size, _ in entries}


# --- measures --------------------------------------------------------------------------------------------------------

def rows_of(golden, name="logits"):
    shape, values = golden[name]
    return [values[row * shape[1]:(row + 1) * shape[1]] for row in range(shape[0])]


def relative_l2(found, expected):
    """|found - expected| / |expected| over all rows; infinite when a value is not finite."""
    difference = square = 0.0
    for a, b in zip(found, expected, strict=True):
        difference += sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        square += sum(y * y for y in b)
    result = math.sqrt(difference / square)
    return result if math.isfinite(result) else math.inf


def log_sum_exp(row):
    top = max(row)
    return top + math.log(sum(math.exp(x - top) for x in row))


def divergence(expected, found):
    """KL(expected || found) of two rows of logits."""
    p_sum, q_sum = log_sum_exp(expected), log_sum_exp(found)
    result = sum(math.exp(p - p_sum) * ((p - p_sum) - (q - q_sum)) for p, q in zip(expected, found, strict=True))
    return result if math.isfinite(result) else math.inf


def divergences_of_text(golden, rows):
    """divergence_of_top of each row from the golden's `text_ids`, `text_logits` and `text_lse`."""
    (count, top), ids = golden["text_ids"]
    logits, totals = golden["text_logits"][1], golden["text_lse"][1]
    return [divergence_of_top(ids[top * i:top * (i + 1)], logits[top * i:top * (i + 1)], totals[i], row)
            for i, row in zip(range(count), rows, strict=True)]


def divergence_of_top(ids, logits, total, found):
    """KL of the distribution known by its likeliest tokens (their logits, and log-sum-exp over all) from a whole row; the
    tokens not listed count as one."""
    q_sum, result, p_rest, q_rest = log_sum_exp(found), 0.0, 1.0, 1.0
    for token, logit in zip(ids, logits, strict=True):
        p, q = logit - total, found[token] - q_sum
        result += math.exp(p) * (p - q)
        p_rest -= math.exp(p)
        q_rest -= math.exp(q)
    if p_rest > 1e-6:
        result += p_rest * math.log(p_rest / max(q_rest, 1e-12))
    return result if math.isfinite(result) else math.inf

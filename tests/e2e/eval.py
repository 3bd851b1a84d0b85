#!/usr/bin/env python3
"""`ingot eval` against doubles worked out here from what `ingot logits` writes: perplexity in one window and in several, KL
divergence and agreement against an artifact and against a file; and what it refuses.

usage: eval.py BUILD_FOLDER"""

import array
import json
import math

import support

TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was " \
       "upon the face of the deep. And God said, Let there be light: and there was light. And the evening and the morning " \
       "were the first day."


def surprise(row, token):
    return support.log_sum_exp(row) - row[token]


def percentile(values, fraction):
    return sorted(values)[math.ceil(fraction * len(values)) - 1]


def close(found, expected):
    return isinstance(found, float) and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)


def body(session):
    text, ids = session.work / "text.txt", session.work / "ids.json"
    text.write_text(TEXT)
    model = support.SOURCE / "models" / "trained" / "tiny-llama"
    fine, coarse = session.work / "bf16.ingot", session.work / "w8a8.ingot"
    if not session.compile(model, fine, "bf16") or not session.compile(model, coarse, "w8a8"):
        return

    def run(target, *options, artifact=coarse):
        return session.run("ingot", "eval", artifact, "--text", text, "--device", "emulator", "--target", target, *options)

    def scores(what, *arguments, **options):
        done = run(*arguments, "--json", **options)
        good = session.check(done.returncode == 0 and "window 1 of" in done.stderr, f"{what} runs, with progress", done.stderr)
        return json.loads(done.stdout) if good else None

    for target in support.TARGETS:
        found = scores(f"{target}: eval", target, "--against", fine, "--save-tokens", ids)
        if not found:
            return
        tokens = json.loads(ids.read_text())
        session.check(found["tokens"] == len(tokens) and found["scored_tokens"] == len(tokens) - 1 and found["windows"] == 1,
                      f"{target}: every token but the first is scored", found)
        q, p = session.logits(coarse, tokens, target), session.logits(fine, tokens, target)
        if q is None or p is None:
            return
        mean = sum(surprise(row, token) for row, token in zip(q, tokens[1:])) / (len(tokens) - 1)
        session.check(close(found["mean_surprise"], mean) and close(found["perplexity"], math.exp(mean)),
                      f"{target}: perplexity {found['perplexity']:.6f} is that of the logits", mean)
        values = [support.divergence(a, b) for a, b in zip(p[:-1], q[:-1])]
        same = sum(max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__)
                   for a, b in zip(p[:-1], q[:-1]))
        reference = sum(surprise(row, token) for row, token in zip(p, tokens[1:])) / (len(tokens) - 1)
        expected = {"kl_mean": sum(values) / len(values), "kl_largest": max(values), "kl_p99": percentile(values, 0.99),
                    "top1_agreement": same / len(values), "perplexity": math.exp(reference)}
        against = found["against"]
        session.check(all(close(against[key], value) for key, value in expected.items())
                      and against["kl_largest_at"] == values.index(max(values)) + 1,
                      f"{target}: KL and agreement against an artifact are those of the two logits", (against, expected))
        session.check(0 < against["kl_mean"] < against["kl_largest"], f"{target}: w8a8 is near bf16, not equal", against)

        out = session.work / "reference.safetensors"
        header = {"logits": {"dtype": "F32", "shape": [len(p), len(p[0])], "data_offsets": [0, 4 * len(p) * len(p[0])]}}
        payload = b"".join(array.array("f", row).tobytes() for row in p)
        support.write_safetensors(out, header, payload)
        from_file = scores(f"{target}: eval against logits", target, "--against", out)
        session.check(from_file and {**from_file["against"], "reference": ""} == {**against, "reference": ""},
                      f"{target}: against a file of its logits the artifact gives the same", from_file)
        same = scores(f"{target}: eval against itself", target, "--against", coarse)
        session.check(same and same["against"]["kl_largest"] == 0 and same["against"]["top1_agreement"] == 1,
                      f"{target}: a model agrees with itself", same)

    # Windows, each from its own logits.
    window, stride, total, scored, windows, begin = 24, 10, 0.0, 1, 0, 0
    while scored < len(tokens):
        end = min(len(tokens), begin + window)
        rows = session.logits(coarse, tokens[begin:end], "gfx1151")
        if rows is None:
            return
        total += sum(surprise(rows[index - begin - 1], tokens[index]) for index in range(scored, end))
        scored, windows, begin = end, windows + 1, begin + stride
    found = scores("eval in windows", "gfx1151", "--window", window, "--stride", stride)
    session.check(found and found["windows"] == windows > 3 and found["window"] == window and found["stride"] == stride
                  and found["scored_tokens"] == len(tokens) - 1 and close(found["mean_surprise"], total / (len(tokens) - 1)),
                  f"{windows} windows of {window} give the perplexity of their logits", (found, total / (len(tokens) - 1)))
    found = scores("eval of the first tokens", "gfx1151", "--tokens", 20)
    session.check(found and close(found["mean_surprise"], sum(surprise(row, token) for row, token in
                                  zip(session.logits(coarse, tokens[:20], "gfx1151"), tokens[1:20])) / 19),
                  "--tokens 20 scores the first 20", found)
    plain = run("gfx1151", "--against", fine, "--window", "32")
    session.check(plain.returncode == 0 and all(word in plain.stdout for word in ("perplexity", "one every 16", "KL", "top token")),
                  "the text says what was measured", plain.stdout + plain.stderr)

    def refuses(what, *options, words):
        done = run("gfx1151", *options)
        lines = done.stderr.splitlines()
        session.check(done.returncode == 1 and len(lines) == 1 and not done.stdout and all(word in lines[0] for word in words),
                      f"refused: {what}", f"exit code {done.returncode}, expected words {words}, stderr:\n{done.stderr}")

    refuses("a window beyond the context", "--window", "513", words=("512", "--window"))
    refuses("a stride of a whole window", "--window", "8", "--stride", "8", words=("1 to 7", "--stride"))
    refuses("logits of other tokens", "--against", out, "--tokens", "20", words=("each of the 20 tokens", "--save-tokens"))
    refuses("logits in several windows", "--against", out, "--window", "20", words=("one window", "--window"))
    refuses("a reference that is not there", "--against", session.work / "none.safetensors", words=("none.safetensors",))
    for name, wrong, data in (("one column more", header["logits"] | {"shape": [len(p) - 1, len(p[0])]}, payload),
                              ("other dtype", header["logits"] | {"dtype": "F16"}, payload),
                              ("data past the end", header["logits"], payload[:-4]),
                              ("offsets in reverse", header["logits"] | {"data_offsets": [8, 0]}, payload),
                              ("a shape that overflows", header["logits"] | {"shape": [1 << 62, 1 << 62]}, payload),
                              ("no shape", {"dtype": "F32", "data_offsets": [0, 4]}, payload)):
        broken = session.work / "broken.safetensors"
        support.write_safetensors(broken, {"logits": wrong}, data)
        refuses(f"logits with {name}", "--against", broken, words=("broken.safetensors", "logits"))
    for name, data in (("no bytes", b""), ("a header longer than the file", b"\xff" * 16), ("no JSON", b"\4\0\0\0\0\0\0\0nope"),
                       ("no tensor", b"\2\0\0\0\0\0\0\0{}")):
        broken.write_bytes(data)
        refuses(f"logits with {name}", "--against", broken, words=("broken.safetensors", "ingot logits"))
    half = session.work / "half.safetensors"
    columns = len(p[0]) // 2
    support.write_safetensors(half, {"logits": {"dtype": "F32", "shape": [2 * len(p), columns],
                                                "data_offsets": header["logits"]["data_offsets"]}}, payload)
    refuses("logits of another vocabulary", "--against", half, words=("vocabulary", str(columns)))
    payload = payload[:4 * len(p[0])] + b"\0\0\xc0\x7f" + payload[4 * len(p[0]) + 4:]
    support.write_safetensors(broken, header, payload)
    done = run("gfx1151", "--against", broken)
    session.check(done.returncode == 1 and "NaN" in done.stderr and not done.stdout, "refused: a NaN in the reference",
                  done.stderr)
    text.write_text("")
    refuses("an empty text", words=("text.txt", "empty"))
    text.write_text("a")
    refuses("a text of one token", words=("at least 2 tokens", "longer"))
    text.unlink()
    refuses("a text that is not there", words=("text.txt",))
    text.mkdir()
    refuses("a folder as text", words=("text.txt", "directory"))


support.main("eval", body)

#!/usr/bin/env python3
"""KV caches of codes: the logits are near those of a bf16 cache, by prefill and by steps; a cache takes the bytes that its
codes and scales are, in the manifest and in what the emulator counts; a chip without FP8 is refused by name.

usage: kv_cache.py BUILD_FOLDER MODEL      (a trained checkpoint, or a folder of tests/goldens)"""

import json

import support

# The largest relative L2 of all logits. An int8 code is off by at most 1/254 of its head's largest element, which is some
# three times the root mean square: 0.7 % of a key or value, in every layer. An E4M3 code is off by at most 1/16 of itself
# and by 2.6 % in the mean. Attention averages values, the residual stream dilutes what attention adds, and layers add up.
LARGEST = {"int8": 2e-2, "fp8": 6e-2}
LENGTH = 150
CACHES = {"bf16": support.TARGETS, "int8": support.TARGETS, "fp8": ("gfx1201",)}


def caches(session, artifact):
    """Bytes of a position of each buffer that grows, and of each ring, by name; and what the artifact says that they hold."""
    found = json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)
    held = {buffer["name"]: buffer["bytes"] + buffer["bytes_per_position"] for buffer in found["memory"]["buffers"]
            if buffer["role"] == "STATE" and (buffer["name"].endswith(".k.cache") or buffer["name"].endswith(".v.cache"))}
    return held, found["provenance"]["kv_cache"]


def body(session, model):
    trained = support.SOURCE / "models" / "trained" / model
    folder = trained if trained.exists() else support.SOURCE / "tests" / "goldens" / model
    config = json.loads((folder / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    tokens = [(7 * i * i + 3) % vocabulary for i in range(LENGTH)]
    held, rows, counted = {}, {}, {}
    for cache, targets in CACHES.items():
        artifact = session.work / f"{cache}.ingot"
        # Short chunks, so that rings wrap.
        if not session.compile(folder, artifact, targets=targets, flags=[f"--kv-cache={cache}", "--prefill-chunk=32"],
                               what=f"ingotc compiles {model} with a cache of {cache}"):
            return
        held[cache], said = caches(session, artifact)
        session.check(said == cache, f"{model}: ingot inspect says that the cache holds {cache}", said)
        for target in targets:
            for steps in (False, True):
                rows[cache, target, steps] = session.logits(artifact, tokens, target, steps=steps)
            done = session.run("ingot", "bench", artifact, "--prompt-tokens", "100", "--max-tokens", "4", "--repeat", "1",
                               "--json", "--device", "emulator", "--target", target)
            counters = json.loads(done.stdout)["decode"]["emulator"]["counters"]["totals"]["buffers"]
            counted[cache, target] = sum(counters[name]["read"] for name in held[cache])
    for cache, targets in CACHES.items():
        if cache == "bf16":
            continue
        # Elements are half as large, and each head has 4 bytes more: 2 D become D + 4.
        least, most = 0.5, 0.5 + 4 / 16 / 2
        ratios = {held[cache][name] / held["bf16"][name] for name in held["bf16"]}
        session.check(held[cache].keys() == held["bf16"].keys() and all(least < ratio <= most for ratio in ratios),
                      f"{model}: caches of {cache} are {', '.join(f'{ratio:.3f}' for ratio in sorted(ratios))} of those of bf16")
        for target in targets:
            ratio = counted[cache, target] / counted["bf16", target]
            session.check(min(ratios) - 0.01 <= ratio <= max(ratios) + 0.01,
                          f"{model}, {target}: a step reads {ratio:.3f} of the bytes of a bf16 cache from one of {cache}")
            for steps in (False, True):
                got, wanted = rows[cache, target, steps], rows["bf16", target, steps]
                if got is None or wanted is None:
                    continue
                apart = support.relative_l2(got, wanted)
                kl = sum(support.divergence(a, b) for a, b in zip(wanted, got)) / len(got)
                session.check(0 < apart <= LARGEST[cache],
                              f"{model}, {target}, {'steps' if steps else 'prefill'}: {cache} is {apart:.2e} from bf16 "
                              f"(at most {LARGEST[cache]}), mean KL {kl:.1e}")
    refused = session.run("ingotc", folder, "-o", session.work / "refused.ingot", "--kv-cache=fp8", "--targets=gfx1151")
    session.check(refused.returncode == 1 and "gfx1151 has no instructions that convert to it" in refused.stderr and
                  "--kv-cache=int8" in refused.stderr and not (session.work / "refused.ingot").exists(),
                  f"{model}: a cache of fp8 is refused for gfx1151, with what to do", refused.stderr)


support.main("kv-cache", body)

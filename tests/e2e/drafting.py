#!/usr/bin/env python3
"""Drafting changes no word: a trained Qwen3.6 checkpoint continues prompts with it and without it, replayed and by plain
launches, as long as it pays and always, greedily and by samples of the same seeds. What is accepted is what
models/trained/README.md says of the head.

usage: drafting.py BUILD_FOLDER MODEL [--prompts N] [--tokens N]

The full run is `--prompts 20 --tokens 256`; docs/design/drafting.md has what came of it."""

import argparse
import re

import support

TEXT = support.SOURCE / "tests" / "goldens" / "held-out.txt"
# models/trained/README.md, three drafts a step: accepted of those drafted. Fewer tokens of fewer prompts scatter.
ACCEPTED = {"tiny-qwen3.6": 0.421, "tiny-qwen3.6-moe": 0.484}
SCATTER = 0.15
# What half of the prompts are sampled by.
SAMPLING = ("--temperature 0.7", "--temperature 1 --top-k 40 --top-p 0.95")


def starts(count):
    """The beginnings of sentences, evenly over the text."""
    sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", TEXT.read_text()) if len(sentence) > 60]
    return [sentences[index * len(sentences) // count][:60] for index in range(count)]


def body(session, *arguments):
    parser = argparse.ArgumentParser(prog="drafting.py")
    parser.add_argument("model", choices=ACCEPTED)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    asked = parser.parse_args(arguments)
    model, count, tokens = asked.model, asked.prompts, asked.tokens
    artifact = session.work / "model.ingot"
    if not session.compile(support.SOURCE / "models" / "trained" / model, artifact):
        return

    def generate(target, prompt, *options):
        done = session.run("ingot", "run", artifact, "--prompt", prompt, "--raw", "--max-tokens", tokens, "--device", "emulator",
                           "--target", target, "--stats", *options)
        if done.returncode != 0:
            session.check(False, f"ingot run {' '.join(options)}", done.stderr)
        return done

    def compare(target, prompts, hows, *sampling):
        """Replies with drafts that are those without, by how they draft; and accepted, drafted and steps of the first."""
        same, counts = dict.fromkeys(hows, 0), (0, 0, 0)
        for seed, prompt in enumerate(prompts):
            how = ("--seed", seed, *sampling)
            plain = generate(target, prompt, "--no-draft", *how)
            for draft in hows:
                done = generate(target, prompt, "--draft", *draft.split(), *how)
                same[draft] += bool(plain.stdout) and done.stdout == plain.stdout
                found = re.search(r"drafts +(\d+) of (\d+) accepted .* over (\d+) steps", done.stderr)
                if draft == hows[0] and found:
                    counts = tuple(old + int(new) for old, new in zip(counts, found.groups()))
        for draft, equal in same.items():
            session.check(equal == len(prompts), f"{model}, {target}: {len(prompts)} replies of {tokens} tokens by "
                          f"{' '.join(sampling)} with --draft {draft} are those without ({equal} are)")
        return counts

    for target in support.TARGETS:
        accepted, drafted, steps = compare(target, starts(count), ("always", "always --no-graph", "auto"), "--temperature", "0")
        share = accepted / max(drafted, 1)
        session.check(abs(share - ACCEPTED[model]) < SCATTER, f"{model}, {target}: {share:.3f} of {drafted} drafts accepted, "
                      f"{1 + accepted / max(steps, 1):.2f} tokens a step (models/trained/README.md says {ACCEPTED[model]})")
        for sampling in SAMPLING:
            accepted, drafted, steps = compare(target, starts(count // 2), ("always", "always --no-graph"), *sampling.split())
            session.check(accepted > 0, f"{model}, {target}: by {sampling} {accepted / max(drafted, 1):.3f} of {drafted} drafts "
                          f"accepted, {1 + accepted / max(steps, 1):.2f} tokens a step")


support.main("drafting", body)

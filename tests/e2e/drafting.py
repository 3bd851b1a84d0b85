#!/usr/bin/env python3
"""Drafting changes no word: a trained Qwen3.6 checkpoint continues prompts with it and without it, replayed and by plain
launches, as long as it pays and always. What is accepted is what models/trained/README.md says of the head.

usage: drafting.py BUILD_FOLDER MODEL [PROMPTS TOKENS]"""

import re

import support

TEXT = support.SOURCE / "tests" / "goldens" / "held-out.txt"
# models/trained/README.md, three drafts a step: accepted of those drafted. Fewer tokens of fewer prompts scatter.
ACCEPTED = {"tiny-qwen3.6": 0.421, "tiny-qwen3.6-moe": 0.484}
SCATTER = 0.15


def prompts(count):
    """The beginnings of sentences, evenly over the text."""
    sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", TEXT.read_text()) if len(sentence) > 60]
    return [sentences[index * len(sentences) // count][:60] for index in range(count)]


def body(session, model, count="4", tokens="64"):
    artifact = session.work / "model.ingot"
    if not session.compile(support.SOURCE / "models" / "trained" / model, artifact):
        return

    def generate(target, prompt, *options):
        done = session.run("ingot", "run", artifact, "--prompt", prompt, "--raw", "--max-tokens", tokens, "--temperature", "0",
                           "--device", "emulator", "--target", target, "--stats", *options)
        if done.returncode != 0:
            session.check(False, f"ingot run {' '.join(options)}", done.stderr)
        return done

    for target in support.TARGETS:
        accepted = drafted = steps = 0
        same = {"always": 0, "always --no-graph": 0, "auto": 0}
        for prompt in prompts(int(count)):
            plain = generate(target, prompt, "--no-draft")
            for how in same:
                done = generate(target, prompt, "--draft", *how.split())
                same[how] += bool(plain.stdout) and done.stdout == plain.stdout
                found = re.search(r"drafts +(\d+) of (\d+) accepted .* over (\d+) steps", done.stderr)
                if how == "always" and found:
                    accepted, drafted, steps = (old + int(new) for old, new in zip((accepted, drafted, steps), found.groups()))
        for how, equal in same.items():
            session.check(equal == int(count), f"{model}, {target}: {count} replies of {tokens} tokens with --draft {how} are "
                          f"those without ({equal} are)")
        share = accepted / max(drafted, 1)
        session.check(abs(share - ACCEPTED[model]) < SCATTER, f"{model}, {target}: {share:.3f} of {drafted} drafts accepted, "
                      f"{1 + accepted / max(steps, 1):.2f} tokens a step (models/trained/README.md says {ACCEPTED[model]})")


support.main("drafting", body)

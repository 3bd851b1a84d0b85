#!/usr/bin/env python3
"""A second prompt that shares a prefix of 2,048 tokens with a first one costs at most 5 % of the first one's launches and bytes,
and its text is that of a fresh run: in the same server, beside it, and after a restart with --cache-dir. A damaged file is
not used.

usage: prefixes.py BUILD_FOLDER MODEL"""

import concurrent.futures
import json
import shutil

import serve
import support

CHUNK = 64
SHARE = 0.05
SENTENCE = "And the children of Israel went up from the river, and they came to the land that was given to them. "


def body(session, model):
    folder, artifact = session.work / model, session.work / f"{model}.ingot"
    shutil.copytree(support.SOURCE / "models" / "trained" / model, folder)
    config = json.loads((folder / "config.json").read_text())
    # Further than the model was trained for: what it writes there is no English, but it must be the same each time.
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2560}))
    if not session.compile(folder, artifact, targets=["gfx1151"], flags=["--prefill-chunk", str(CHUNK)]):
        return
    cache = session.work / "cache"
    cache.mkdir()

    def start():
        server = serve.Server(session, artifact, "--streams", "3", "--cache-dir", str(cache))
        session.check(server.ready, "the server starts", server.said)
        return server

    server = start()
    shared = SENTENCE
    while len(server.request("POST", "/tokenize", {"content": shared})[2]["tokens"]) < 2048 + CHUNK:
        shared += SENTENCE
    prompts = [shared + "The king said", shared + "But the woman"]
    fresh = []
    for prompt in prompts:
        done = session.run("ingot", "run", artifact, "--prompt", prompt, "--raw", "--max-tokens", "8", "--device", "emulator",
                           "--target", "gfx1151", "--temperature", "0", "--no-draft")
        fresh.append(done.stdout[:-1])

    def cost(prompt, expected, what):
        """Launches and bytes of one token: of the prefill, that is."""
        before = server.metrics()
        text = server.complete(prompt, max_tokens=1)
        after = server.metrics()
        session.check(expected.startswith(text), f"{what}: the text is that of a fresh run", (text, expected))
        names = ("ingot_prefill_launches_total", "ingot_emulator_bytes_total", "ingot_prefix_hits_total",
                 "ingot_prompt_tokens_reused_total", "ingot_cache_restored_bytes_total")
        return [after[name] - before[name] for name in names]

    first, second = (cost(prompt, text, what) for prompt, text, what in zip(prompts, fresh, ("first", "second")))
    session.check(0 < second[0] <= SHARE * first[0] and 0 < second[1] <= SHARE * first[1],
                  f"a second prompt with the same 2,048 tokens has {100 * second[0] / first[0]:.1f} % of the launches and "
                  f"{100 * second[1] / first[1]:.1f} % of the bytes ({second[4] / 2**20:.1f} MiB copied)", (first, second))
    session.check(first[2] == 0 and second[2] == 1 and second[3] >= 2048, "the figures say so", (first, second))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda prompt: server.complete(prompt, max_tokens=8), prompts))
    session.check(texts == fresh, "both beside each other write what fresh runs write", (texts, fresh))
    session.check(server.stop() == 0 and len(list(cache.iterdir())) == 1, "draining writes one file", list(cache.iterdir()))

    server = start()
    again = cost(prompts[1], fresh[1], "after a restart")
    session.check(again[0] <= SHARE * first[0] and again[3] >= 2048, "a restarted server remembers", (first, again))
    # Three that come together with the same new prompt.
    before = server.metrics()
    new = "In the beginning " + shared[:len(shared) // 2]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        texts = set(pool.map(lambda _: server.complete(new, max_tokens=4), range(3)))
    chunks = server.metrics()["ingot_prefill_chunks_total"] - before["ingot_prefill_chunks_total"]
    tokens = len(server.request("POST", "/tokenize", {"content": new})[2]["tokens"])
    session.check(len(texts) == 1 and chunks <= tokens / CHUNK + 6, "three at once with one prompt compute it once",
                  (chunks, tokens / CHUNK, texts))
    server.stop()

    file, = cache.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 8] ^= 1
    file.write_bytes(data)
    server = start()
    damaged = cost(prompts[1], fresh[1], "after damage to the file")
    session.check("checksum" in server.said and damaged[3] < 2048, "what is damaged is not used, and the log says so", server.said)
    server.stop()


if __name__ == "__main__":
    support.main("prefixes", body)

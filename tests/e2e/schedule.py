#!/usr/bin/env python3
"""A random schedule of requests against `ingot serve`: arrivals, clients that leave, shared prefixes, conversations that go on,
evictions. Every answer must be what a fresh run gives: a second server with one stream and no memory of earlier prompts. At the
end the counters must be back at zero, and the server's memory must have stopped growing.

usage: schedule.py BUILD_FOLDER MODEL SECONDS SEED [--artifact FILE] [OPTION_OF_SERVE...]

The same seed asks for the same things in the same order on each client; what meets what is up to the machine. `--artifact` takes
a compiled model, for builds without the compiler. The server's memory is sampled each second; what the last third of the time has
more than the third before it, in the median, must be under 2 %. A soak is the same with more seconds in a sanitizer build. That
keeps memory of its own, of what was freed and of frames that returned, many MiB a thread if it may; it also says exactly what is
allocated and not freed, and then it is that, at the least between requests, that must be under 1 %:

    ASAN_OPTIONS=detect_container_overflow=0:quarantine_size_mb=16:max_uar_stack_size_log=16 \\
        tests/e2e/schedule.py SANITIZER_BUILD tiny-qwen3.6 1800 1 --artifact tiny-qwen3.6.ingot --cache 3"""

import argparse
import http.client
import json
import pathlib
import random
import statistics
import sys
import threading
import time

import serve
import support

CLIENTS = 6
CONTEXT = 512
CHUNK = 32  # of prefill
WORDS = ("and the king of that land said unto his servants go up into city by river where people were gathered bread "
         "stone house water light day night children went came saw heard took gave").split()
GROWTH = 0.02  # of the median of a third of the time over the one before it
HEAP_GROWTH = 0.01  # of the least that is allocated in a third of the time
PATIENCE = 300  # seconds for an answer: a sanitizer build on a busy machine is slow


class Oracle:
    """What a fresh run answers. Asked for each question once."""

    def __init__(self, server):
        self.server, self.known, self.lock = server, {}, threading.Lock()

    def answer(self, body):
        key = json.dumps(body, sort_keys=True)
        with self.lock:
            if key not in self.known:
                self.known[key] = ask(self.server, body)
            return self.known[key]


def ask(server, body):
    """The texts of all choices and how each ended."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        return [(response.status, answer["error"]["code"] or answer["error"]["message"])]
    return [(each["text"], each["finish_reason"]) for each in answer["choices"]]


class Client:
    """One of several that ask at the same time; each has its own random numbers and its own conversation."""

    def __init__(self, number, seed, server, oracle, prefixes):
        self.random = random.Random(f"{seed} {number}")
        self.server, self.oracle, self.prefixes = server, oracle, prefixes
        self.said = ""
        self.asked = self.left = self.full = 0
        self.wrong = []

    def words(self, most):
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(1, most)))

    def prompt(self):
        kind = self.random.random()
        if kind < 0.3 and 0 < len(self.said) < 700:  # a conversation goes on
            return self.said + " " + self.words(6)
        if kind < 0.85:  # one of the shared beginnings, whole or in part
            prefix = self.random.choice(self.prefixes)
            return prefix[:self.random.randint(1, len(prefix))] + self.words(8)
        return self.words(60)

    def body(self):
        body = {"prompt": self.prompt(), "max_tokens": self.random.randint(1, 20), "temperature": 0}
        if self.random.random() < 0.5:
            body |= {"temperature": 0.9, "seed": self.random.randint(0, 3), "top_k": self.random.choice((0, 5))}
        if self.random.random() < 0.1:
            body |= {"n": 2, "seed": 1}
        if self.random.random() < 0.1:
            body |= {"repetition_penalty": 1.3, "presence_penalty": 0.5}
        if self.random.random() < 0.1:
            body["stop"] = [" the", "."]
        if self.random.random() < 0.1:
            body["logprobs"] = 1
        return body

    def turn(self):
        body = self.body()
        self.asked += 1
        if self.random.random() < 0.25:
            self.leave(body)
            return
        found = ask(self.server, body)
        if found == [(503, "queue_full")]:
            self.full += 1
            return
        expected = self.oracle.answer(body)
        if found != expected:
            self.wrong.append((body, found, expected))
        self.said = body["prompt"] + str(found[0][0])

    def leave(self, body):
        """Reads a few events of a stream and hangs up. What came must be a beginning of the whole."""
        self.left += 1
        stay = self.random.randint(0, 5)
        body = {key: value for key, value in body.items() if key != "n"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        text = ""
        if stay:
            response = connection.getresponse()
            if response.status == 503:
                self.full += 1
                connection.close()
                return
            for _ in range(2 * stay):  # each event and the empty line behind it
                line = response.readline().decode()
                if line.startswith("data: {"):
                    choices = json.loads(line[6:]).get("choices") or [{"text": ""}]
                    text += choices[0]["text"]
            response.close()
        connection.close()
        if text:
            expected = self.oracle.answer(body)
            if not str(expected[0][0]).startswith(text):
                self.wrong.append((body, text, expected))

    def run(self, until):
        try:
            while time.time() < until and not self.wrong:
                self.turn()
                if self.random.random() < 0.1:
                    time.sleep(self.random.random() / 5)
        except Exception as error:  # a server that is gone, say
            self.wrong.append(("no answer", repr(error), ""))


def resident(server):
    """The server's memory, in KiB."""
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def curve(samples, middle, points=12):
    """`middle` of equal parts of the time, in MiB of samples in KiB."""
    size = max(1, len(samples) // points)
    return " ".join(str(round(middle(samples[first:first + size]) / 1024, 1)) for first in range(0, len(samples), size))


def thirds(samples, middle):
    """`middle` of the second third of the time and of the last."""
    third = len(samples) // 3
    return middle(samples[third:2 * third]), middle(samples[-third:])


def body(session, model, seconds, seed, artifact, options):
    if not artifact:
        artifact = session.work / f"{model}.ingot"
        if not session.compile(support.SOURCE / "models" / "trained" / model, artifact, flags=["--prefill-chunk", str(CHUNK)], streams=4):
            return
    # Fewer pages than three contexts: some requests wait for them.
    server = serve.Server(session, artifact, "--streams", "3", "--context", str(CONTEXT), "--kv-tokens", str(2 * CONTEXT),
                          "--max-queue", "4", *options)
    fresh = serve.Server(session, artifact, "--streams", "1", "--context", str(CONTEXT), "--max-queue", "64", "--cache", "0")
    if not session.check(server.ready and fresh.ready, "both servers start", (server.said, fresh.said)):
        return
    words = random.Random(f"{seed} prefixes")
    prefixes = [" ".join(words.choice(WORDS) for _ in range(length)) + " " for length in (30, 60, 60, 120, 200)]
    prefixes.append(prefixes[1][:len(prefixes[1]) // 2] + prefixes[0])  # begins as another, then parts from it
    oracle = Oracle(fresh)
    clients = [Client(number, seed, server, oracle, prefixes) for number in range(CLIENTS)]
    until = time.time() + seconds
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
    samples, heap, sanitized = [], [], "ingot_heap_bytes" in server.metrics()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples.append(resident(server))
        if sanitized:
            heap.append(server.metrics()["ingot_heap_bytes"] / 1024)
        time.sleep(min(1, seconds / 30))
        if server.process.poll() is not None:
            break
    for thread in threads:
        thread.join()
    asked, left, full = (sum(getattr(client, name) for client in clients) for name in ("asked", "left", "full"))
    wrong = [each for client in clients for each in client.wrong]
    figures = server.metrics()
    session.check(not wrong, f"{asked} requests in {seconds} s, {left} of them left early and {full} refused by a full queue: "
                  f"{len(oracle.known)} answers compared with fresh runs", wrong[:3])
    steps, rows = (figures[f"ingot_batch_{what}_total"] for what in ("steps", "rows"))
    several = json.loads(server.said)["requests_per_step"] > 1
    session.check((steps > 0) == several and fresh.metrics()["ingot_batch_steps_total"] == 0,
                  f"{rows:.0f} of {figures['ingot_reply_tokens_total']:.0f} tokens by {steps:.0f} steps of several; the fresh runs by "
                  "none", figures)
    session.check(server.quiet(60) and fresh.quiet(60), "no request is left running or waiting", server.metrics())
    held, now = server.holds_only_what_is_remembered(CHUNK)
    session.check(held, f"of {now['ingot_kv_pages']:.0f} pages {now['ingot_kv_pages_free']:.0f} are free and the rest are remembered", now)
    reused = figures["ingot_prompt_tokens_reused_total"]
    session.check(reused > 0 and fresh.metrics()["ingot_prompt_tokens_reused_total"] == 0,
                  f"prefixes were found again: {reused:.0f} of {figures['ingot_prompt_tokens_total']:.0f} tokens; the fresh "
                  "runs found none")
    # A short run is still filling its caches.
    def flat(part, middle, most):
        before, after = thirds(part, middle)
        return seconds < 300 or after <= (1 + most) * before

    if sanitized:
        session.check(flat(heap, min, HEAP_GROWTH), f"memory allocated in MiB over the time: {curve(heap, min)}", thirds(heap, min))
    session.check(sanitized or flat(samples, statistics.median, GROWTH),
                  f"memory of the process in MiB over the time: {curve(samples, statistics.median)}", thirds(samples, statistics.median))
    session.check((server.stop(), fresh.stop()) == (0, 0), "both servers end well")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("--artifact")
    given, options = parser.parse_known_args()
    sys.argv = [sys.argv[0], given.build, given.model]
    support.main("schedule", lambda session, model: body(session, model, given.seconds, given.seed, given.artifact, options))

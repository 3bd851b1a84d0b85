#!/usr/bin/env python3
"""`ingot serve` from outside, with a plain HTTP client: streams beside each other answer what each answers alone and what
`ingot run` answers; clients that leave free their slots; what
is refused is refused with OpenAI's shape; SIGTERM lets running replies end.

usage: serve.py BUILD_FOLDER MODEL"""

import concurrent.futures
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import time

import support

CHUNK = 64
PAGE = 16  # positions of a page of KV cache
STREAMS = 8
TEMPLATE = """{%- if tools %}{{ 'Tools: ' + (tools | tojson) + ' for <tool_call>\\n' }}{% endif %}
{%- for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""
# The text that the vocabulary's last token is made to stand for, so that a bias on it makes the model call a function.
CALL = '<tool_call>{"name":"look","arguments":{"x":1}}</tool_call>'
PROMPTS = ["In the beginning", "And the king said", "The sons of", "He went up to the mountain, and",
           "Now these are the words of the man who walked through the land and came to the city by the river, where "
           "the people were gathered together to hear what he would say to them about the house of the king:"]


def prepare(model, folder):
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    # Further than the model was trained for: what it writes there is no English, but it must be the same each time.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2560}))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    last = max(vocabulary.values())
    name, = (piece for piece, number in vocabulary.items() if number == last)
    left, right = merges.pop() if isinstance(merges[-1], list) else merges.pop().split()
    if left + right != name:
        raise ValueError("the last token is not the last merge's")
    del vocabulary[name]
    vocabulary[CALL] = last
    path.write_text(json.dumps(tokenizer))
    return last


class Server:
    headers = {}  # of each request

    def __init__(self, session, artifact, *options, target="gfx1151"):
        command = [session.bin / "ingot", "serve", artifact, "--device", "emulator", "--target", target, "--port", "0",
                   *options]
        self.process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        self.ready = line.startswith("{")
        self.said = line
        if self.ready:
            self.port = int(json.loads(line)["address"].rsplit(":", 1)[1])

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, parsed body)"""
        connection = self.connection()
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **self.headers, **(headers or {})})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        try:
            return response.status, response.headers, json.loads(text)
        except ValueError:
            return response.status, response.headers, text

    def complete(self, prompt, **fields):
        status, _, answer = self.request("POST", "/v1/completions",
                                         {"prompt": prompt, "max_tokens": 16, "temperature": 0, **fields})
        return answer["choices"][0]["text"] if status == 200 else f"{status} {answer}"

    def chat(self, **fields):
        return self.request("POST", "/v1/chat/completions",
                            {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0, **fields})

    def metrics(self):
        _, _, text = self.request("GET", "/metrics")
        return {name: float(value) for name, _, value in
                (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))}

    def steps_since(self, before):
        """Tokens of replies, steps of several requests and their rows, since the metrics of then."""
        now = self.metrics()
        return [now[f"ingot_{name}_total"] - before[f"ingot_{name}_total"] for name in ("reply_tokens", "batch_steps", "batch_rows")]

    def holds_only_what_is_remembered(self, block):
        """Whether each page is free or one of a remembered block of so many tokens, and none is promised; and the metrics."""
        now = self.metrics()
        pages, free, promised = (now[f"ingot_kv_pages{what}"] for what in ("", "_free", "_promised"))
        return promised == 0 and free + block // PAGE * now["ingot_cache_blocks"] == pages, now

    def open_stream(self, **fields):
        connection = self.connection()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "The", "stream": True, "temperature": 0, **fields}),
                           {"Content-Type": "application/json"})
        return connection

    def quiet(self, seconds=20):
        """Whether no request is running or waiting, within that time."""
        until = time.time() + seconds
        while time.time() < until:
            found = self.metrics()
            if found["ingot_requests_running"] == found["ingot_requests_waiting"] == 0:
                return True
            time.sleep(0.05)
        return False

    def stop(self):
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "no end after SIGTERM"


def events(text):
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


def streams(session, artifact, target):
    server = Server(session, artifact, "--streams", "16", "--context", "512", target=target)
    if not session.check(server.ready, f"{target}: the server starts", server.said):
        return
    asked = [(PROMPTS[index % len(PROMPTS)], {"temperature": 0} if index % 2 else {"temperature": 0.9, "seed": index})
             for index in range(16)]
    alone = [server.complete(prompt, **fields) for prompt, fields in asked]
    ran = []
    for prompt, fields in asked[:2]:
        options = [item for key, value in fields.items() for item in ("--" + key, value)]
        done = session.run("ingot", "run", artifact, "--prompt", prompt, "--raw", "--max-tokens", "16", "--device",
                           "emulator", "--target", target, *options)
        ran.append(done.stdout[:-1])
    session.check(alone[:2] == ran, f"{target}: the server writes what `ingot run` writes", (alone[:2], ran))
    before = server.metrics()
    session.check(before["ingot_batch_steps_total"] == 0, f"{target}: alone by steps of their own", before)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        beside = list(pool.map(lambda one: server.complete(one[0], **one[1]), asked))
    session.check(beside == alone, f"{target}: 16 streams write what each writes alone", (beside, alone))
    _, steps, rows = server.steps_since(before)
    session.check(rows >= 2 * steps > 0, f"{target}: by steps of several: {rows:.0f} of their tokens by {steps:.0f} steps")
    session.check(server.quiet(), f"{target}: no slot is left taken")
    session.check(server.stop() == 0, f"{target}: SIGTERM ends the server with exit code 0")


SCHEMA = {"type": "object", "required": ["kind", "sizes", "name"], "properties": {
    "kind": {"enum": ["lamb", "bread"]}, "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
    "name": {"type": "string"}}}
GRAMMAR = r'root ::= ("ram" | "ewe") (", " [a-z]+ (" and " | " of ") [a-z ]{2,30})*'


def constrained(session, artifact, target):
    """Replies held to a schema or a grammar, whose tokens the device leaves out, beside each other and a plain one."""
    server = Server(session, artifact, "--streams", "16", "--context", "512", target=target)
    if not session.check(server.ready, f"{target}: the server starts once more", server.said):
        return
    choices = [{"temperature": 0}, {"temperature": 1, "seed": 3}, {"temperature": 0.8, "seed": 4, "top_k": 40},
               {"temperature": 1.2, "seed": 5, "top_p": 0.9}, {"temperature": 1, "seed": 6, "top_k": 20, "top_p": 0.7}]

    def ask(index, **more):
        fields = {"max_tokens": 40, **choices[index % len(choices)], **more}
        if index % 3 == 0:
            return server.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                               **fields)[2]["choices"][0]["message"]["content"]
        if index == 14:
            return server.complete(PROMPTS[0], **{**fields, "temperature": 1})
        return server.complete(PROMPTS[index % len(PROMPTS)], grammar=GRAMMAR, **fields)

    alone = [ask(index) for index in range(16)]
    session.check(all(text[:3] in ("ram", "ewe") for index, text in enumerate(alone) if index % 3 and index != 14) and
                  all(text.lstrip()[0] == "{" for text in alone[::3]), f"{target}: replies begin as they must", alone)
    # A bias brings the logits to the host, which then leaves tokens out itself.
    changed = [ask(index, logit_bias={"7": 0}, logprobs=True if index % 3 == 0 else 1) for index in range(16)]
    session.check(changed == alone, f"{target}: what the device leaves out is what the host leaves out", (changed, alone))
    before = server.metrics()
    session.check(before["ingot_batch_steps_total"] == 0, f"{target}: one alone by steps of its own", before)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        beside = list(pool.map(ask, range(16)))
    session.check(beside == alone, f"{target}: beside each other they write what each writes alone", (beside, alone))
    tokens, steps, rows = server.steps_since(before)
    session.check(rows >= tokens / 2 and rows >= 2 * steps > 0,
                  f"{target}: by steps of several: {rows:.0f} of {tokens:.0f} tokens by {steps:.0f} steps")
    session.check(server.quiet() and server.stop() == 0, f"{target}: no slot is left taken by them")


# What changes or shows the logits of a reply on the host; and nothing.
WISHES = [{"repetition_penalty": 1.3}, {"presence_penalty": 1.5, "frequency_penalty": 0.5, "logprobs": 2},
          {"temperature": 1, "seed": 2, "min_p": 0.2, "logprobs": 0}, {"temperature": 0.9, "seed": 3, "logit_bias": {"11": 3, "12": -100}},
          {"logprobs": 3}, {"temperature": 1, "seed": 5, "logprobs": 1}, {"grammar": GRAMMAR, "logprobs": 2},
          {"grammar": GRAMMAR, "temperature": 1, "seed": 7, "min_p": 0.05, "frequency_penalty": 0.3}, {},
          {"temperature": 1, "seed": 9}]


def hosted(session, artifact, target):
    """Requests whose logits the host sees or changes, beside each other and plain ones: text and log-probabilities are
    those that each has alone."""
    server = Server(session, artifact, "--streams", "16", "--context", "256", target=target)
    if not session.check(server.ready, f"{target}: the server starts for penalties", server.said):
        return

    def ask(index, **more):
        fields = {"prompt": PROMPTS[index % len(PROMPTS)], "max_tokens": 40, "temperature": 0, **WISHES[index % len(WISHES)], **more}
        status, _, answer = server.request("POST", "/v1/completions", fields)
        return {name: answer["choices"][0][name] for name in ("text", "logprobs", "finish_reason")} if status == 200 else answer

    def schema(index):
        choice = server.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                             logprobs=True, top_logprobs=2, max_tokens=40, temperature=index % 2, seed=index)[2]["choices"][0]
        return {name: choice[name] for name in ("message", "logprobs", "finish_reason")}

    # The last prompt is the longest: it meets the end of the context.
    asked = [lambda index=index: ask(index) for index in range(13)]
    asked += [lambda: schema(0), lambda: schema(1), lambda: ask(4, prompt=PROMPTS[4] * 3, max_tokens=1000)]
    alone = [one() for one in asked]
    plain = [server.complete(PROMPTS[index % len(PROMPTS)], max_tokens=40) for index in range(2)]
    session.check(all("text" in each or "message" in each for each in alone) and
                  [each["text"] for each in alone[:2]] != plain and alone[4]["text"] ==
                  server.complete(PROMPTS[4], max_tokens=40), f"{target}: penalties change greedy text, log-probabilities do not", alone)
    before = server.metrics()
    session.check(before["ingot_batch_steps_total"] == 0, f"{target}: one of them alone by steps of its own", before)
    leaving = server.open_stream(max_tokens=200, logprobs=1, repetition_penalty=1.1)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        running = [pool.submit(one) for one in asked]
        leaving.getresponse().readline()
        leaving.sock.close()
        beside = [one.result() for one in running]
    session.check(beside == alone, f"{target}: beside each other and one that leaves they write what each writes alone",
                  [pair for pair in zip(beside, alone) if pair[0] != pair[1]])
    tokens, steps, rows = server.steps_since(before)
    session.check(rows >= tokens / 2 and rows >= 3 * steps > 0,
                  f"{target}: the host's changes in steps of several: {rows:.0f} of {tokens:.0f} tokens by {steps:.0f} steps")
    session.check(server.quiet() and server.stop() == 0, f"{target}: no slot is left taken by these")


def interface(session, artifact, call):
    server = Server(session, artifact, "--streams", "2", "--max-queue", "3", "--context", "512", "--name", "small")
    if not session.check(server.ready, "the server with a short queue starts", server.said):
        return
    status, _, listed = server.request("GET", "/v1/models")
    session.check(json.loads(server.said)["requests_per_step"] == STREAMS, "the first line says how many requests a step takes",
                  server.said)
    session.check(status == 200 and listed["data"][0]["id"] == "small" and server.request("GET", "/v1/models/small")[0] == 200,
                  "the model is listed by its name", listed)
    status, headers, page = server.request("GET", "/")
    session.check(status == 200 and "text/html" in headers["Content-Type"] and "//" not in page.split("<body", 1)[0],
                  "the page is there and loads nothing from elsewhere", page)
    text = "In the beginning \u00e9\U0001f600"
    tokens = server.request("POST", "/tokenize", {"content": text})[2]["tokens"]
    session.check(server.request("POST", "/detokenize", {"tokens": tokens})[2]["content"] == text, "text survives the tokens")

    status, _, whole = server.chat(logprobs=True, top_logprobs=2, seed=1, temperature=0.7)
    choice = whole["choices"][0]
    entries = choice["logprobs"]["content"]
    session.check(status == 200 and choice["finish_reason"] == "length" and whole["usage"]["completion_tokens"] == 8 and
                  "".join(entry["token"] for entry in entries).strip() == choice["message"]["content"].strip() and
                  all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= entry["top_logprobs"][0]["logprob"] <= 0
                      for entry in entries), "a chat with logprobs", whole)
    streamed = events(server.chat(stream=True, stream_options={"include_usage": True}, seed=1, temperature=0.7)[2])
    joined = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed if chunk["choices"])
    session.check(joined == choice["message"]["content"] and streamed[-1]["usage"] == whole["usage"] and
                  streamed[-2]["choices"][0]["finish_reason"] == "length",
                  "the same chat as a stream, without logprobs, has the same text and usage", streamed)
    words = server.complete("In the beginning", max_tokens=24)
    stop = words.split()[4]
    stopped = server.request("POST", "/v1/completions", {"prompt": "In the beginning", "max_tokens": 24, "temperature": 0,
                                                        "stop": ["never met", stop]})[2]["choices"][0]
    session.check(stopped["text"] == words[:words.index(stop)] and stopped["finish_reason"] == "stop",
                  "a stop string ends the text before it", (words, stopped))
    several = server.request("POST", "/v1/completions", {"prompt": ["In the", "And"], "n": 2, "seed": 5, "temperature": 1})[2]
    single = server.request("POST", "/v1/completions", {"prompt": "And", "seed": 6, "temperature": 1})[2]
    session.check(len(several["choices"]) == 4 and several["choices"][3]["text"] == single["choices"][0]["text"],
                  "n choices of each prompt, with seeds that follow", several)
    plain = server.complete("the the the", max_tokens=24)
    session.check(server.complete("the the the", max_tokens=24, repetition_penalty=1.5, frequency_penalty=1) != plain and
                  server.complete("the the the", max_tokens=24, min_p=0.1, presence_penalty=0) == plain,
                  "penalties change greedy text, min-p does not")

    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    called = server.chat(tools=tools, logit_bias={call: 100}, max_tokens=2)[2]["choices"][0]
    ids = [each["id"] for each in called["message"].get("tool_calls", [])]
    chunks = events(server.chat(tools=tools, logit_bias={call: 100}, max_tokens=1, stream=True)[2])
    deltas = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", [])]
    ids += [each["id"] for each in deltas]
    session.check(len(ids) == 3 == len(set(ids)) and called["message"]["tool_calls"][1]["function"] ==
                  {"name": "look", "arguments": '{"x":1}'} and deltas[0]["function"]["name"] == "look" and deltas[0]["index"] == 0,
                  "function calls are parsed, whole and streamed, with ids of their own", (called, chunks))
    untold = server.chat(logit_bias={call: 100}, max_tokens=1)[2]["choices"][0]["message"]
    session.check(untold["content"] == CALL, "without tools the same text is content", untold)

    schema = {"type": "object", "required": ["kind", "sizes", "good"], "properties": {
        "kind": {"enum": ["lamb", "bread"]}, "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
        "good": {"type": "boolean"}}}
    held = [server.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, max_tokens=200,
                        temperature=temperature, seed=seed)[2]["choices"][0] for temperature, seed in ((0, 0), (1, 1), (1, 2))]
    good = [json.loads(each["message"]["content"]) for each in held]
    session.check(all(each["finish_reason"] == "stop" for each in held) and all(
        set(each) == {"kind", "sizes", "good"} and each["kind"] in ("lamb", "bread") and 2 <= len(each["sizes"]) <= 3 and
        isinstance(each["good"], bool) for each in good), "replies are held to a schema, which ends them", held)

    drawn = [server.complete("The king", grammar=r'root ::= ("ram" | "ewe") ("," [ ] [a-c]{2,3})*', temperature=temperature, seed=seed,
                             max_tokens=40) for temperature, seed in ((0, 0), (1, 1), (1, 2))]
    session.check(all(re.fullmatch(r"(ram|ewe)(, [abc]{2,3})*(,( [abc]{0,3})?)?", each) for each in drawn),
                  "replies are held to a grammar", drawn)
    two = tools + [{"type": "function", "function": {"name": "go", "parameters": {
        "type": "object", "properties": {"to": {"enum": ["river", "city"]}}, "required": ["to"]}}}]
    forced = [server.chat(tools=two, tool_choice=choice, max_tokens=200, temperature=1, seed=seed)[2]["choices"][0]
              for seed, choice in enumerate(("required", {"type": "function", "function": {"name": "go"}}, "required"))]
    calls = [each["message"]["tool_calls"][0]["function"] for each in forced if each["message"].get("tool_calls")]
    session.check(len(calls) == 3 and all(each["finish_reason"] == "tool_calls" for each in forced) and calls[1]["name"] == "go" and
                  all(json.loads(each["arguments"])["to"] in ("river", "city") for each in calls if each["name"] == "go"),
                  "a call that is asked for comes, with arguments by its schema", forced)
    shown = server.request("POST", "/apply-template", {"messages": [{"role": "user", "content": "hello"}]})[2]
    session.check(shown == {"prompt": "user: hello\nassistant:"}, "a chat is shown as the model is given it", shown)

    deep = '{"messages":' + "[" * 100000
    refused = {
        "no messages": (400, "/v1/chat/completions", {"messages": []}),
        "an unknown role": (400, "/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}),
        "an image": (400, "/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        "a temperature that is text": (400, "/v1/completions", {"prompt": "a", "temperature": "hot"}),
        "a negative temperature": (400, "/v1/completions", {"prompt": "a", "temperature": -1}),
        "a token that there is not": (400, "/v1/completions", {"prompt": [99999]}),
        "a prompt longer than the context": (400, "/v1/completions", {"prompt": "word " * 2000}),
        "an empty prompt": (400, "/v1/completions", {"prompt": ""}),
        "a schema that cannot be held": (400, "/v1/chat/completions", {
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "a"}}}}),
        "a grammar that is none": (400, "/v1/completions", {"prompt": "a", "grammar": "root ::= root"}),
        "a grammar that can be read in too many ways": (400, "/v1/completions", {
            "prompt": "a", "grammar": 'root ::= . root "a" | . root "b" | "x"'}),
        "a call of no function": (400, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": tools,
                                                                 "tool_choice": {"type": "function", "function": {"name": "x"}}}),
        "a call without tools": (400, "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}],
                                                                "tool_choice": "required"}),
        "another model": (404, "/v1/completions", {"prompt": "a", "model": "gpt"}),
        "embeddings": (400, "/v1/embeddings", {"input": "a"}),
        "another path": (404, "/v1/nothing", {}),
        "broken JSON": (400, "/v1/completions", '{"prompt": '),
        "broken UTF-8": (400, "/v1/completions", b'{"prompt": "\xff"}'),
        "JSON nested too deeply": (400, "/v1/chat/completions", deep),
        "no body": (400, "/v1/completions", None),
    }
    wrong = {}
    for what, (expected, path, body) in refused.items():
        status, _, answer = server.request("POST", path, body)
        if status != expected or not isinstance(answer, dict) or set(answer.get("error", ())) != {"message", "type", "param", "code"}:
            wrong[what] = (status, answer)
    session.check(not wrong, f"{len(refused)} wrong requests are refused in OpenAI's shape", wrong)
    session.check(server.request("GET", "/health", headers={"Origin": "http://elsewhere.example"})[0] == 403,
                  "a page of another origin is not answered")

    clients = [server.open_stream(max_tokens=400) for _ in range(5)]
    until = time.time() + 20
    while server.metrics()["ingot_requests_waiting"] < 3 and time.time() < until:
        time.sleep(0.02)
    status, headers, answer = server.chat()
    session.check(status == 503 and headers["Retry-After"] == "1" and answer["error"]["code"] == "queue_full",
                  "beyond slots and queue a request is answered 503 with Retry-After", answer)
    for client in clients:
        client.sock.close()
        client.close()
    session.check(server.quiet(5), "clients that leave free their slots and places")
    whole = server.connection()
    whole.request("POST", "/v1/completions", json.dumps({"prompt": "The", "max_tokens": 400, "temperature": 0}),
                  {"Content-Type": "application/json"})
    until = time.time() + 10
    while server.metrics()["ingot_requests_running"] == 0 and time.time() < until:
        time.sleep(0.02)
    whole.sock.close()
    session.check(server.quiet(5), "also one that waits for a whole answer")
    for index in range(200):
        client = socket.create_connection(("127.0.0.1", server.port))
        body = json.dumps({"prompt": "The", "max_tokens": 300, "stream": index % 2 == 0})
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        if index % 4 == 0:
            client.recv(1)
        client.close()
    session.check(server.quiet(), "200 clients that leave at once leave nothing behind", server.metrics())
    session.check(server.complete("In the beginning", max_tokens=24) == words, "and change no later answer")

    last = server.open_stream(max_tokens=120)
    answer = last.getresponse()
    answer.readline()
    server.process.send_signal(signal.SIGTERM)
    rest = answer.read().decode()
    session.check(rest.rstrip().endswith("[DONE]") and len(events(rest)) >= 100 and server.process.wait(60) == 0,
                  "SIGTERM lets a running reply end", rest[-200:])


def keys(session, artifact):
    server = Server(session, artifact, "--streams", "1", "--context", "512", "--api-key", "secret")
    if not session.check(server.ready, "the server with a key starts", server.said):
        return
    found = [server.request("GET", "/v1/models", headers=headers)[0]
             for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secret"})]
    session.check(found == [401, 401, 200] and server.request("GET", "/health")[0] == 200,
                  "with a key only those who have it are answered", found)
    server.stop()
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    done = session.run("ingot", "serve", artifact, "--device", "emulator", "--port", str(taken.getsockname()[1]))
    session.check(done.returncode == 1 and "cannot listen" in done.stderr, "a taken port is an error", done.stderr)


def terminal(session, artifact):
    """`ingot chat`, which stands on the same service."""
    said = "hello\n/stats\none \\\ntwo\n/history\n/undo\n/history\n/temperature cold\n\"\"\"\nthree\nfour\n\"\"\"\n/nonsense\n/quit\n"
    done = subprocess.run([session.bin / "ingot", "chat", artifact, "--device", "emulator", "--context", "512", "--seed", "3",
                           "-n", "8", "--system", "be kind"], input=said, capture_output=True, text=True, timeout=120)
    shown = done.stdout
    session.check(done.returncode == 0 and shown.count("system: be kind") == 2 and shown.count("user: hello") == 2 and
                  shown.count("user: one \ntwo") == 1 and "reply 8 tokens" in shown and "expected a number" in shown and
                  "there is no /nonsense" in shown, "ingot chat keeps a history and knows its commands", (shown, done.stderr))


def benchmark(session, artifact):
    """`ingot bench` over several lengths, depths and numbers of streams."""
    done = session.run("ingot", "bench", artifact, "--prompt-tokens", "4,9", "--depth", "0,70", "--streams", "1,3", "--max-tokens", "3",
                       "--repeat", "1", "--json", "--device", "emulator")
    cases = json.loads(done.stdout) if done.returncode == 0 else []
    found = {(each["prompt_tokens"], each["depth"], each["streams"]) for each in cases}
    session.check(found == {(prompt, depth, streams) for prompt in (4, 9) for depth in (0, 70) for streams in (1, 3)} and
                  all(each[phase]["tokens_per_second"]["median"] > 0 for each in cases for phase in ("prefill", "decode")),
                  "ingot bench measures each combination", (found, done.stderr))


def body(session, model):
    folder, artifact = session.work / model, session.work / f"{model}.ingot"
    call = prepare(support.SOURCE / "models" / "trained" / model, folder)
    if not session.compile(folder, artifact, flags=["--prefill-chunk", str(CHUNK)], streams=STREAMS):
        return
    for target in support.TARGETS:
        streams(session, artifact, target)
        constrained(session, artifact, target)
        hosted(session, artifact, target)
    interface(session, artifact, call)
    keys(session, artifact)
    terminal(session, artifact)
    benchmark(session, artifact)


if __name__ == "__main__":
    support.main("serve", body)

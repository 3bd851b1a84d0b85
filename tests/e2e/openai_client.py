#!/usr/bin/env python3
"""`ingot serve` through OpenAI's own Python client: chat, stream, function calls, logprobs, errors. The client is in a
virtual environment that tools/scripts/fetch-client makes; without it this reports itself as not run.

usage: openai_client.py BUILD_FOLDER"""

import concurrent.futures
import json
import os
import pathlib
import sys

CLIENT = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "client" / "bin" / "python"
if pathlib.Path(sys.prefix) != CLIENT.parents[1]:
    if not CLIENT.exists():
        print("skip - OpenAI's client is not here (tools/scripts/fetch-client)")
        sys.exit(77)
    os.execv(CLIENT, [str(CLIENT), *sys.argv])

import openai

import serve
import support


LEAVING = 8  # clients that leave at the same time


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    return None


def body(session):
    artifact = session.work / "tiny.ingot"
    call = serve.prepare(support.SOURCE / "models" / "trained" / "tiny-qwen3.6", session.work / "tiny")
    if not session.compile(session.work / "tiny", artifact, flags=["--prefill-chunk", str(serve.CHUNK)], streams=None):
        return
    server = serve.Server(session, artifact, "--streams", "2", "--context", "512", "--name", "tiny", "--api-key", "secret")
    if not session.check(server.ready, "the server starts", server.said):
        return
    session.check(json.loads(server.said)["requests_per_step"] == 4, "a step takes four requests unless ingotc is told otherwise",
                  server.said)
    base = f"http://127.0.0.1:{server.port}/v1"
    client = openai.OpenAI(base_url=base, api_key="secret", max_retries=0, timeout=120)
    hello = [{"role": "user", "content": "In the beginning"}]
    session.check([model.id for model in client.models.list()] == ["tiny"], "the models")
    whole = client.chat.completions.create(model="tiny", messages=hello, temperature=0, max_tokens=12, logprobs=True,
                                           top_logprobs=3)
    choice = whole.choices[0]
    session.check(choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "length" and
                  whole.usage.completion_tokens == 12, "a chat", whole)
    session.check(len(choice.logprobs.content) == 12 and all(len(token.top_logprobs) == 3 and bytes(token.bytes).decode() ==
                  token.token for token in choice.logprobs.content), "its logprobs", choice.logprobs)
    text, usage = "", None
    for chunk in client.chat.completions.create(model="tiny", messages=hello, temperature=0, max_tokens=12, stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        text += "".join(each.delta.content or "" for each in chunk.choices)
    session.check(text == choice.message.content and usage.total_tokens == whole.usage.total_tokens, "the same as a stream",
                  (text, usage))
    seeded = [client.chat.completions.create(model="tiny", messages=hello, seed=4, max_tokens=12, n=2) for _ in range(2)]
    session.check([each.message.content for each in seeded[0].choices] == [each.message.content for each in seeded[1].choices]
                  and len(seeded[0].choices) == 2, "two choices by a seed", seeded)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    with client.chat.completions.create(model="tiny", messages=hello, tools=tools, logit_bias={str(call): 100}, temperature=0,
                                        max_tokens=2, stream=True) as stream:
        calls = [each for chunk in stream for part in chunk.choices for each in part.delta.tool_calls or []]
    session.check([each.index for each in calls] == [0, 1] and calls[0].id != calls[1].id and
                  calls[0].function.arguments == '{"x":1}', "function calls in a stream", calls)
    history = hello + [{"role": "assistant", "content": None, "tool_calls": [
        {"id": calls[0].id, "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}}]},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "seen"}]
    session.check(client.chat.completions.create(model="tiny", messages=history, tools=tools, max_tokens=4).choices,
                  "a result of a function goes back in")
    held = client.chat.completions.create(model="tiny", messages=hello, temperature=0, max_tokens=100, response_format={
        "type": "json_schema", "json_schema": {"name": "size", "strict": True, "schema": {
            "type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"], "additionalProperties": False}}})
    session.check(isinstance(json.loads(held.choices[0].message.content)["size"], int), "a reply by a schema", held)
    completion = client.completions.create(model="tiny", prompt="In the beginning", max_tokens=5, temperature=0, logprobs=2)
    session.check(completion.choices[0].text and len(completion.choices[0].logprobs.tokens) == 5, "a completion", completion)

    session.check(refused(openai.BadRequestError, lambda: client.chat.completions.create(model="tiny", messages=[])),
                  "a wrong request is a BadRequestError")
    error = refused(openai.BadRequestError, lambda: client.chat.completions.create(model="tiny", messages=hello, temperature=-1))
    session.check(error and error.param == "temperature", "which names the field", error and error.body)
    session.check(refused(openai.NotFoundError, lambda: client.chat.completions.create(model="other", messages=hello)),
                  "another model is a NotFoundError")
    session.check(refused(openai.BadRequestError, lambda: client.embeddings.create(model="tiny", input="a")),
                  "embeddings are refused")
    stranger = openai.OpenAI(base_url=base, api_key="wrong", max_retries=0)
    session.check(refused(openai.AuthenticationError, stranger.models.list), "a wrong key is an AuthenticationError")

    # Asks again where a slow machine has its queue full.
    patient = client.with_options(max_retries=20)

    def leave(number):
        stream = patient.chat.completions.create(model="tiny", messages=hello, max_tokens=300, stream=True)
        if number % 2:
            next(iter(stream))
        stream.close()

    with concurrent.futures.ThreadPoolExecutor(LEAVING) as pool:
        list(pool.map(leave, range(200)))
    server.headers = {"Authorization": "Bearer secret"}
    quiet = server.quiet()
    held, now = server.holds_only_what_is_remembered(serve.CHUNK)
    session.check(quiet and held and now['ingot_requests_total{finish="cancelled"}'] >= 150,
                  "200 streams that are closed early leave no slot and no page behind", now)
    left = client.chat.completions.create(model="tiny", messages=hello, temperature=0, max_tokens=12)
    session.check(left.choices[0].message.content == text, "and change no later answer", left)
    server.stop()


support.main("openai", body)

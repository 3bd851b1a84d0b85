#!/usr/bin/env python3
"""The page of `ingot serve` in a headless Chromium: it loads with nothing but this server, streams a reply, shows its
speed and the use of the context, stops, and says what went wrong. The browser is driven through its debugging pipe, with
Python's standard library. Without Chromium it reports itself as not run.

usage: page.py BUILD_FOLDER"""

import json
import os
import shutil
import subprocess
import sys
import time

import serve
import support


class Browser:
    """A tab of a headless Chromium, by the DevTools protocol over a pipe: JSON messages, each ended by a zero byte."""

    def __init__(self, program, folder):
        child_in, self.out = os.pipe()
        self.answers, child_out = os.pipe()

        def as_three_and_four():
            first, second = os.dup(child_in), os.dup(child_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
             f"--user-data-dir={folder}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=as_three_and_four)
        os.close(child_in)
        os.close(child_out)
        self.rest, self.number, self.tab = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.tab = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.requested = []
        self.call("Network.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.tab:
            message["sessionId"] = self.tab
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                data = os.read(self.answers, 1 << 16)
                if not data:
                    raise RuntimeError("the browser is gone")
                self.rest += data
            line, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression, seconds=60):
        until = time.time() + seconds
        while time.time() < until:
            if found := self.value(expression):
                return found
            time.sleep(0.05)
        return None

    def close(self):
        self.process.kill()
        self.process.wait()


def body(session):
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not program:
        print("skip - there is no Chromium here (tools/setup --tests)")
        sys.exit(77)
    artifact = session.work / "tiny.ingot"
    serve.prepare(support.SOURCE / "models" / "trained" / "tiny-llama", session.work / "tiny")
    if not session.compile(session.work / "tiny", artifact, flags=["--prefill-chunk", str(serve.CHUNK)]):
        return
    server = serve.Server(session, artifact, "--streams", "2", "--context", "512")
    if not session.check(server.ready, "the server starts", server.said):
        return
    address = f"http://127.0.0.1:{server.port}/"
    browser = Browser(program, session.work / "browser")
    try:
        browser.call("Page.navigate", url=address)
        session.check(browser.wait("document.getElementById('model')?.textContent.includes('context 512')"),
                      "the page finds the model")
        say = """(() => { document.getElementById('prompt').value = %s; document.getElementById('temperature').value = 0;
            document.getElementById('max_tokens').value = %d; document.getElementById('form').requestSubmit(); })()"""
        browser.value(say % (json.dumps("<b>In the beginning</b>"), 12))
        idle = "document.getElementById('send').textContent === 'Send' && document.querySelector('.assistant')?.textContent"
        shown = browser.wait(idle)
        _, _, plain = server.chat(messages=[{"role": "user", "content": "<b>In the beginning</b>"}], max_tokens=12, top_p=0.95)
        expected = plain["choices"][0]["message"]["content"]
        session.check(shown == expected, "a reply is what the API gives", (shown, expected))
        session.check(browser.value("document.querySelector('.user').textContent") == "<b>In the beginning</b>" and
                      not browser.value("document.querySelector('.user b')"), "what is typed is text, not HTML")
        figures = browser.value("document.getElementById('figures').textContent")
        total = plain["usage"]["total_tokens"]
        session.check("tokens/s" in figures and "first token after" in figures and f"context {total} of 512" in figures,
                      "speed, time to the first token and the use of the context are shown", figures)
        browser.value(say % (json.dumps("Go on"), 400))
        session.check(browser.wait("document.querySelectorAll('.assistant').length === 2"), "a second reply begins")
        browser.value("document.getElementById('form').requestSubmit()")
        session.check(browser.wait("document.getElementById('send').textContent === 'Send'") and server.quiet(5),
                      "Stop ends it and frees its slot")
        browser.value(say % (json.dumps("word " * 600), 5))
        error = browser.wait("document.querySelector('.error')?.textContent")
        session.check(error and "shorten the prompt" in error, "an error is shown as the server says it", error)
        session.check(len(browser.requested) >= 4 and all(url.startswith((address, "data:")) for url in browser.requested),
                      "nothing is loaded from elsewhere", browser.requested)
    finally:
        browser.close()
        server.stop()


if __name__ == "__main__":
    support.main("page", body)

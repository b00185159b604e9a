"""A program in the place of `llama-server`, which does by script what no real one does on request.

It writes its command line to a file beside it, and answers the endpoints that the engine asks on its Unix socket. Its
script says what else it does: it `dies` while it loads, with `words` before that; it `loads` for so long; it is
`stubborn` when it is to end. An answer has so many `tokens`, before whose end it `ends`, `hangs` or `breaks` off; the
`status` and `kind` of a refusal come in its place. The chat endpoint sends the frames of `chat`, and `caps` are what is
said of the template.
"""

import json
import sys
from pathlib import Path

from tests.support.gguf_file import gguf_bytes

_PROGRAM = """#!{python} -S
import json, os, pathlib, signal, socketserver, sys, time
from http.server import BaseHTTPRequestHandler

here = pathlib.Path(__file__)
script = json.loads(here.with_suffix(".json").read_text())
words = sys.argv[1:]
known = dict(zip(words, words[1:]))
key = pathlib.Path(known["--api-key-file"]).read_text()
here.with_suffix(".args").write_text(json.dumps(words))
for line in script["words"]:
    print(line.replace("KEY", key), flush=True)
if script["dies"] is not None:
    os._exit(script["dies"]) if script["dies"] >= 0 else os.kill(os.getpid(), -script["dies"])
if script["stubborn"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
began = time.monotonic()


class Child(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            return self.tell(200 if time.monotonic() >= began + script["loads"] else 503, {{}})
        place = int(known["--ctx-size"]) // int(known["--parallel"])
        params = {{"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05}}
        usual = {{"n_ctx": place, "params": params}}
        caps = {{"chat_template_caps": script["caps"]}}
        self.tell(200, {{"default_generation_settings": usual, "model_ftype": "F32"}} | caps)

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"] or 0) or 0) if "content-length" in self.headers \\
            else self.chunks()
        if self.headers["authorization"] != "Bearer " + key:
            return self.tell(401, {{}})
        body = json.loads(asked)
        if self.path == "/tokenize":
            return self.tell(200, {{"tokens": [2] * max(len(str(body["content"]).split()), 1)}})
        if self.path == "/apply-template":
            return self.tell(200, {{"prompt": " ".join(each["content"] for each in body["messages"])}})
        if script["status"] != 200:
            return self.tell(script["status"], {{"error": {{"type": script["kind"], "message": "no"}}}})
        here.with_suffix(".body").write_text(asked.decode())
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if self.path == "/v1/chat/completions":
            for frame in script["chat"]:
                self.event(**frame)
            self.piece(b"data: [DONE]\\n\\n")
            return self.piece(b"")
        self.event(prompt_progress={{"total": 1, "cache": 0, "processed": 1, "time_ms": 1}})
        for number in range(script["tokens"]):
            self.event(content="hello", tokens=[2], tokens_predicted=number + 1)
        if script["ends"]:
            os._exit(3)
        while script["hangs"]:
            time.sleep(60)
        if not script["breaks"]:
            self.event(stop=True, stop_type="limit", tokens_predicted=script["tokens"])
        self.piece(b"")

    def event(self, **data):
        self.piece(b"data: " + json.dumps(data).encode() + b"\\n\\n")

    def piece(self, data):
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
        self.wfile.flush()

    def chunks(self):
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def tell(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("", 0)


Server(known["--host"], Child).serve_forever()
"""
_USUAL = {
    "words": [], "dies": None, "loads": 0, "stubborn": False, "caps": {}, "status": 200, "kind": "", "chat": [],
    "tokens": 3, "ends": False, "hangs": False, "breaks": False,
}  # fmt: skip


class LlamaChild:
    """The program, a small model, and what became of the last start."""

    def __init__(self, folder: Path, template: str = "", **script) -> None:
        self.program = folder / "llama-server"
        self.program.write_text(_PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)
        self.program.with_suffix(".json").write_text(json.dumps(_USUAL | script))
        self.model = folder / "small.gguf"
        self.model.write_bytes(gguf_bytes(template=template))

    @property
    def settings(self) -> dict:
        """The settings that name both."""
        return {"binary": str(self.program), "model": str(self.model)}

    @property
    def words(self) -> list[str]:
        """The command line of the last start."""
        return json.loads(self.program.with_suffix(".args").read_text())

    @property
    def body(self) -> dict:
        """The last request for an answer."""
        return json.loads(self.program.with_suffix(".body").read_text())

    def word(self, flag: str) -> str:
        """What follows a flag on the command line."""
        return self.words[self.words.index(flag) + 1]

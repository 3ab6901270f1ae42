"""A small server of another make: it speaks OpenAI's API, loads adapters as vLLM does, and misbehaves where asked to.

Run with a port and a folder: what was asked of it lies there in ``asked.jsonl``.
"""

import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

LOADED: dict[str, str] = {}
BASE = "their-model"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def say(self, status: int, **told: Any) -> None:
        self.send(status, json.dumps(told).encode())

    def do_GET(self) -> None:
        self.say(200, object="list", data=[{"id": name} for name in (BASE, *LOADED)])

    def note(self, **told: Any) -> None:
        with (Path(sys.argv[2]) / "asked.jsonl").open("a") as file:
            file.write(json.dumps({"path": self.path, **told}) + "\n")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.note(**asked)
        if self.path == "/v1/load_lora_adapter":
            self.load(asked["lora_name"], asked["lora_path"])
        elif self.path == "/v1/unload_lora_adapter":
            known = LOADED.pop(asked["lora_name"], None)
            self.send(200, b"Success") if known else self.say(404, error={"message": "cannot be found."})
        elif asked["model"] not in (BASE, *LOADED):
            self.say(404, error={"message": f"no {asked['model']}"})
        else:
            self.answer(asked)

    def load(self, name: str, path: str) -> None:
        """Statuses and words are those of vLLM 0.32.0; where it serves no adapters, it has no such path."""
        if name.startswith("nowhere"):
            self.say(404, detail="Not Found")
        elif name in LOADED:
            self.say(400, error={"message": f"The lora adapter '{name}' has already been loaded."})
        elif not (Path(path) / "adapter_model.safetensors").is_file():
            key = self.headers.get("Authorization", "")
            self.say(404, error={"message": f"Loading lora {name} failed: No adapter found for <path>\n{key}"})
        else:
            LOADED[name] = path
            self.send(200, f"Success: LoRA adapter '{name}' added successfully.".encode())

    def until_left(self) -> None:
        """Answer nothing, and note that the client has gone."""
        self.connection.settimeout(50)
        self.note(left=self.connection.recv(1, socket.MSG_PEEK) == b"")
        self.close_connection = True

    def endless(self) -> None:
        """Stream for as long as anybody reads, and note that the client has gone."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        try:
            self.flood()
        except OSError:
            self.note(left=True)

    def flood(self) -> NoReturn:
        event = f"data: {json.dumps({'id': 'endless', 'choices': [{'text': 'x' * 65_000}]})}\n\n".encode()
        while True:
            self.wfile.write(event)

    def answer(self, asked: dict[str, Any]) -> None:
        prompt = asked.get("prompt") or asked["messages"][-1]["content"]
        if prompt == "redirect":
            self.send(302, b"", Location="http://127.0.0.1:9/v1/completions")
        elif prompt == "busy":
            key = self.headers.get("Authorization", "")
            self.send(429, json.dumps({"error": {"message": f"busy; {key}"}}).encode(), Retry_After="7")
        elif prompt == "html":
            self.send(500, b"<html>" + b"x" * 1_000_000, "text/html")
        elif prompt == "odd":
            self.send(200, b"<html>", "text/html")
        elif prompt == "strange":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; x=" + "€".encode().decode("latin-1"))
            self.end_headers()
            self.wfile.write(b"data: {}\n\n")
            self.close_connection = True
        elif prompt == "slow":
            time.sleep(5)
        elif prompt == "until you leave":
            self.until_left()
        elif prompt == "endless":
            self.endless()
        elif prompt == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{")
            self.close_connection = True
        else:
            self.write(asked, f"{asked['model']} says {prompt[-20:]}" if asked["model"] in LOADED else "hello")

    def write(self, asked: dict[str, Any], text: str) -> None:
        key = f"cmpl-{time.monotonic_ns()}"
        chat = "messages" in asked
        if asked.get("stream"):
            parts = [{"delta": {"content": one}} if chat else {"text": one} for one in text.split(" ")]
            events = [{"id": key, "object": "chunk", "choices": [{"index": 0, **part}]} for part in parts]
            body = "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"
            self.send(200, body.encode(), "text/event-stream")
        else:
            choice = {"index": 0, "finish_reason": "stop"}
            choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            self.say(200, id=key, object="x", created=0, model=asked["model"], choices=[choice])


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()

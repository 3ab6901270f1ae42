"""A server that runs a model: OpenAI's completions API over HTTP, a stand-in for vLLM."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import torch

from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from tests.policies.serving import serving

BASE, ADAPTER = "served", "tuned"


@dataclass
class ModelServer:
    """Serves ``served`` and, with the adapter, ``tuned``; requests wait for each other.

    Attributes:
        lm: the model.
        adapter: what ``tuned`` carries.
        echo: whether it knows ``echo`` with ``logprobs``.
        prompt_logprobs: whether it knows vLLM's extension.
        refuse: whether it answers HTTP 400 to what it does not know, instead of leaving it away.
        whole_letters: whether the last token of a letter has its text and those before have none, as with vLLM; else
            each has a mark in its place.
        silent: whether an unknown name is served as the base model, instead of HTTP 404.
        spoil: changes the choices that are sent.
    """

    lm: LanguageModel
    adapter: LoraWeights
    echo: bool = True
    prompt_logprobs: bool = True
    refuse: bool = True
    whole_letters: bool = True
    silent: bool = False
    spoil: Any = None
    url: str = ""
    prompts: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def answer(self, request: dict[str, Any]) -> tuple[int, bytes]:
        model = request["model"]
        if model not in (BASE, ADAPTER) and not self.silent:
            return 404, b'{"error": {"message": "no such model"}}'
        if self.refuse and (("echo" in request) > self.echo or ("prompt_logprobs" in request) > self.prompt_logprobs):
            return 400, b'{"error": {"message": "not supported"}}'
        asked = [request["prompt"]] if isinstance(request["prompt"], str) else request["prompt"]
        with self.lock, self.lm.adapted(self.adapter) if model == ADAPTER else nullcontext():
            self.prompts += asked
            choices = [self.choice(i, prompt, request) for i, prompt in enumerate(asked)]
        for choice in choices:
            if self.spoil:
                self.spoil(choice)
        return 200, json.dumps({"choices": choices[::-1]}).encode()

    @torch.no_grad()
    def choice(self, index: int, prompt: str, request: dict[str, Any]) -> dict[str, Any]:
        tokens, count = self.lm.encode(prompt), len(self.lm.encode(prompt))
        for _ in range(request["max_tokens"]):
            tokens.append(int(self.lm.model(torch.tensor([tokens])).logits[0, -1].argmax()))
        logs = self.lm.model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
        known = [None, *(float(logs[i - 1, tokens[i]]) for i in range(1, len(tokens)))]
        texts = self.texts(tokens)
        written = self.lm.tokenizer.decode(tokens[count:], skip_special_tokens=True)
        if self.whole_letters:
            written = written.removesuffix("\ufffd")
        echo = self.echo and request.get("echo", False)
        made: dict[str, Any] = {"index": index, "text": (prompt if echo else "") + written, "finish_reason": "length"}
        begin = 0 if echo else count
        if "logprobs" in request:
            made["logprobs"] = {"tokens": texts[begin:], "token_logprobs": known[begin:]}
        if self.prompt_logprobs and "prompt_logprobs" in request:
            places = [{str(t): {"logprob": known[i], "decoded_token": texts[i]}} for i, t in enumerate(tokens[:count])]
            made["prompt_logprobs"] = [None, *places[1:]]
        return made

    def texts(self, tokens: list[int]) -> list[str]:
        """Return each token's text."""
        if not self.whole_letters:
            return [self.lm.tokenizer.decode([token], skip_special_tokens=False) for token in tokens]
        made, begin = list[str](), 0
        for end in range(1, len(tokens) + 1):
            text = str(self.lm.tokenizer.decode(tokens[begin:end], skip_special_tokens=False))
            whole = not text.endswith("\ufffd")
            made.append(text if whole else "")
            begin = end if whole else begin
        return made


@contextmanager
def serving_model(server: ModelServer) -> Iterator[ModelServer]:
    """Run a server for the length of a test."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = server.answer(request) if self.path == "/v1/completions" else (404, b"{}")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as server.url:
        yield server

"""Sampling many continuations of one prompt at once, freely or under a grammar."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jinja2 import TemplateError
from torch import Tensor

from cao.inference.calls import Usage
from cao.inference.prompt_memory import PromptMemory
from cao.model.language_model import LanguageModel
from cao.types import Message

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import Cache

    from cao.inference.grammar import Grammar  # llguidance may not be installed


COLDEST = 1e-8
"""Below it the likeliest token is drawn in any case, and quotients leave float32."""


def draw(logits: Tensor, *, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> Tensor:
    """Draw one token a row: temperature, then top-k, then top-p.

    Args:
        logits: (n, V), float32, on the CPU; ``-inf`` for tokens that must not be drawn, but not for all of a row.
        temperature: 0 takes the most likely token, as does one below ``COLDEST``.
        top_k: how many of the most likely tokens stay, 0 for all.
        top_p: the smallest set of most likely tokens with at least this probability stays.
        generator: where the randomness comes from.

    Returns:
        (n,), int64.

    Source: CAO-LLM §2.4 (T=1.0, top-p 0.9, top-k 50).
    """
    if temperature < COLDEST:
        return logits.argmax(-1)
    if not top_k and top_p >= 1:  # no token is left out, so none need be sorted
        return torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator).squeeze(-1)
    width = logits.shape[-1]
    values, tokens = logits.topk(min(top_k, width) if top_k else width)
    probabilities = torch.softmax(values / temperature, -1)
    before = probabilities.cumsum(-1) - probabilities  # the token that crosses top_p is still in
    kept = probabilities.masked_fill((before >= top_p) & (before > 0), 0.0)  # whatever top_p is, the first is in
    place = torch.multinomial(kept, 1, generator=generator)
    return tokens.gather(-1, place).squeeze(-1)


def chat_text(lm: LanguageModel, messages: list[Message]) -> str:
    """Return the prompt's text: the tokenizer's chat template, or plain paragraphs where it has none.

    Args:
        lm: whose tokenizer.
        messages: of the system, the user and the assistant; control tokens inside them are taken apart.
    """
    tokenizer = lm.tokenizer
    safe: list[Message] = [
        {"role": m["role"], "content": _without_control(m["content"], tokenizer.all_special_tokens)} for m in messages
    ]
    if not tokenizer.chat_template:
        return "\n\n".join([*(message["content"].strip() for message in safe), "Reply:"]) + "\n"
    joined: list[Message] = [{"role": "user", "content": "\n\n".join(message["content"] for message in safe)}]
    for chat in (safe, _without_system(safe)):
        try:
            return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except TemplateError:  # a template without a system role, or one that takes roles by turns alone
            continue
    return str(tokenizer.apply_chat_template(joined, tokenize=False, add_generation_prompt=True))


def _without_system(messages: list[Message]) -> list[Message]:
    """Return a chat whose system text stands before what the user says first, as templates without that role want."""
    told = [message["content"] for message in messages if message["role"] == "system"]
    turns = [message for message in messages if message["role"] != "system"]
    first = next((number for number, turn in enumerate(turns) if turn["role"] == "user"), None)
    if not told or first is None:
        return messages
    turns[first] = {"role": "user", "content": "\n\n".join([*told, turns[first]["content"]])}
    return turns


def _without_control(text: str, control: list[str]) -> str:
    for token in control:
        text = text.replace(token, " ".join(token))
    return text


@torch.inference_mode()
def sample(
    lm: LanguageModel,
    prompt: str,
    n: int,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    max_tokens: int,
    generator: torch.Generator,
    grammar: "Grammar | None" = None,
    memory: PromptMemory | None = None,
    beginning: int = 0,
    usage: Usage | None = None,
) -> list[str]:
    """Return ``n`` continuations of one prompt.

    The prompt is read once, and all continuations are written side by side under a mask that hides them from each
    other: a fifth of what copies of the cache cost on a CPU. A model that a mask does not suit writes one after
    another. Where the grammar leaves one way to go on, its tokens are read with the one drawn before.

    Args:
        lm: the model.
        prompt: the whole text, chat marks included.
        n: how many.
        temperature: see :func:`draw`.
        top_k: see :func:`draw`.
        top_p: see :func:`draw`.
        max_tokens: of one continuation.
        generator: on the CPU; equal states give equal texts.
        grammar: what the texts must follow, None for free text.
        memory: of prompts read before, under the same adapter.
        beginning: tokens that the prompt shares with other ones that will come.
        usage: has the tokens that were read and written added.

    Returns:
        The texts, without control tokens; one that ran into ``max_tokens`` is cut there.
    """
    ids = prompt_tokens(lm, prompt)
    together = lm.paths.fit(len(ids) + n * max_tokens)
    if n > 1 and not together:
        how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "max_tokens": max_tokens}
        also = {"generator": generator, "grammar": grammar, "memory": memory, "beginning": beginning, "usage": usage}
        return [text for _ in range(n) for text in sample(lm, prompt, 1, **how, **also)]  # type: ignore[arg-type]
    cache, logits = (memory or PromptMemory()).read(lm, ids, beginning)
    logits, texts = logits.expand(n, -1), [_Text(m) for m in (grammar.matchers(n) if grammar else [None] * n)]
    ends, going = lm.end_tokens(), list(range(n))
    owners = torch.full((len(ids),), -1)  # whose each cached position is; the prompt is everybody's
    while True:
        if grammar:
            logits = logits.masked_fill(~grammar.allowed([texts[row].matcher for row in going]), float("-inf"))
        drawn = draw(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator).tolist()
        for row, token in zip(going, drawn, strict=True):
            texts[row].add(token, ends, max_tokens)
        if not (going := [row for row in going if not texts[row].done]):
            break
        owners = torch.cat([owners, torch.tensor([row for row in going for _ in texts[row].fresh])])
        cache, logits = _read_on(lm, [texts[row] for row in going], len(ids), owners if together else None, cache)
    (usage or Usage()).add(len(ids), sum(len(text.tokens) for text in texts))
    return [lm.tokenizer.decode(text.tokens, skip_special_tokens=True).strip() for text in texts]


def prompt_tokens(lm: LanguageModel, prompt: str) -> list[int]:
    """Return the tokens of a prompt; a chat template writes its own opening token."""
    return lm.encode(prompt, special=not lm.tokenizer.chat_template)


@dataclass
class _Text:
    """One continuation while it is written.

    Attributes:
        matcher: follows the grammar, None without one.
        tokens: written so far.
        fresh: the last of them, which the model has not read.
        done: whether it has ended.
    """

    matcher: "LLMatcher | None"
    tokens: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    done: bool = False

    def add(self, token: int, ends: set[int], most: int) -> None:
        """Take the token that was drawn, and what the grammar leaves no choice about behind it."""
        self.done = token in ends
        if self.done:
            return
        self.fresh = [token]
        if self.matcher is not None:
            self.done = not self.matcher.consume_token(token) or self.matcher.is_stopped()
            if not self.done:
                forced = self.matcher.compute_ff_tokens()[: most - len(self.tokens) - 1]
                self.done = bool(forced) and not self.matcher.consume_tokens(forced)
                self.fresh += [] if self.done else forced
                self.done = self.done or self.matcher.is_stopped()
        self.tokens += self.fresh
        self.done = self.done or len(self.tokens) >= most


def _read_on(
    lm: LanguageModel, texts: list[_Text], prompt: int, owners: Tensor | None, cache: "Cache"
) -> tuple["Cache", Tensor]:
    """Read what is fresh of g texts; return the cache with it, and the next token's logits, (g, V).

    Args:
        lm: the model.
        texts: those that still go on.
        prompt: the prompt's tokens.
        owners: see :func:`_own_past`; None where one text is written alone.
        cache: what was read before.
    """
    fresh = [text.fresh for text in texts]
    places = [prompt + len(text.tokens) - len(text.fresh) for text in texts]
    positions = [place + i for place, some in zip(places, fresh, strict=True) for i in range(len(some))]
    output = lm.trunk(
        input_ids=torch.tensor([[token for some in fresh for token in some]], device=lm.device),
        position_ids=torch.tensor([positions], device=lm.device),
        attention_mask=None if owners is None else _own_past(owners, len(positions), lm),
        past_key_values=cache,
        use_cache=True,
    )
    last = torch.tensor([len(some) for some in fresh]).cumsum(0) - 1
    return output.past_key_values, lm.logits(output.last_hidden_state[0, last.to(lm.device)]).float().cpu()


def _own_past(owners: Tensor, fresh: int, lm: LanguageModel) -> Tensor:
    """Return the additive mask (1, 1, fresh, positions): each token sees the prompt and its own text up to itself.

    Args:
        owners: (positions,) whose each cached position is, -1 for the prompt's.
        fresh: how many of them, the last ones, are read now.
        lm: for dtype and device.
    """
    places = torch.arange(len(owners))
    own = (owners == owners[-fresh:, None]) & (places <= places[-fresh:, None])
    mask = torch.zeros(own.shape, dtype=lm.model.dtype).masked_fill(~((owners == -1) | own), float("-inf"))
    return mask.to(lm.device)[None, None]

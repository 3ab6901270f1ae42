"""The local policy: any Hugging Face causal language model, decoded under the strategies' grammar."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cao.errors import InputError
from cao.files import canonical_json
from cao.inference.calls import Call, telling
from cao.inference.prompt_memory import PromptMemory
from cao.inference.sampling import chat_text, prompt_tokens, sample
from cao.model.adapters import LoraWeights, adapter_sha256, load_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model, resolve
from cao.model.profiles import MODELS, ModelProfile, known, laid_over
from cao.policy_settings import PolicySettings
from cao.progress import say
from cao.strategy import StrategyRejectedError, StrategySchema, parse_strategy
from cao.types import DtypeChoice, Message, Trial
from policies.base import PolicyContext
from policies.extract import answer
from policies.messages import policy_messages
from policies.selection.learnt import training_command
from policies.trained import find_policy, index_of

if TYPE_CHECKING:
    from cao.inference.grammar import Grammar

RESAMPLES = 4
"""How often a text that is no strategy, or repeats an attempt, is drawn again."""

_SOME_TRIAL = Trial(attempt=1, strategy={"family": "LORA", "lambda": 0.5}, accepted=False, reason="", seconds=0.0)
"""A history in which a prompt stops being like one without."""

_INVALID, _REPEATED, _FRESH = range(3)


class LocalPolicy:
    """Samples strategies from a language model on this machine.

    Attributes:
        name: ``local``.
        lm: the model.
        adapter: what the policy's training made of it, None for the model as it is.
        adapter_sha256: the adapter's hash, None without one.
        model_sha256: hash of the model's weights.
        stats: counts since the start: ``drawn`` texts, the ``valid`` ones among them as they were drawn, and those
            ``repeated`` from the history; ``constrained`` of the drawn ones were decoded under the grammar.

    Source: CAO-LLM §2.4 (sampling at T=1.0, top-p 0.9, top-k 50).
    """

    name = "local"

    def __init__(self, lm: LanguageModel, settings: PolicySettings, adapter: LoraWeights | None = None) -> None:
        """Take a loaded model; nothing is copied.

        Args:
            lm: the model, which may be the run's own.
            settings: how to sample.
            adapter: what the policy's training made of the model; put on while it writes.
        """
        self.lm = lm
        self.adapter = adapter
        self.adapter_sha256 = adapter_sha256(adapter) if adapter else None
        self.model_sha256 = lm.sha256
        self.settings = settings
        self._grammar = cache(self._compile)
        self._memory = PromptMemory()
        self.stats: Counter[str] = Counter()

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` texts; each is a strategy not tried yet unless five draws in a row gave none.

        A trained policy may hardly say anything but what it has tried: a repetition is drawn again at twice the
        temperature, and so on. So is any text at temperature 0, which would be the same for ever.

        Args:
            context: the state of the run.
            n: how many.
            seed: equal seeds give equal texts.
        """
        tried = context.spent
        prompt, beginning = self.prompt(context), self._beginning(context)
        grammar = self._grammar(json.dumps(context.offered())) if self.settings.constrained else None
        generator = torch.Generator().manual_seed(seed)
        texts, ranks = [""] * n, [_INVALID] * n
        for again in range(1 + RESAMPLES):
            missing = {rank: [i for i in range(n) if ranks[i] == rank] for rank in (_INVALID, _REPEATED)}
            heat = {_INVALID: 1.0 if self.settings.temperature else 2.0**again, _REPEATED: 2.0**again}
            for rank, places in missing.items():
                for i, drawn in zip(
                    places, self.draw_texts(prompt, beginning, len(places), generator, grammar, heat[rank]), strict=True
                ):
                    text, rank = _ranked(drawn, tried)
                    self.stats.update(drawn=1, constrained=int(grammar is not None), repeated=int(rank == _REPEATED))
                    self.stats.update(valid=int(rank != _INVALID and text == drawn))
                    if rank >= ranks[i]:
                        texts[i], ranks[i] = text, rank
        return texts

    def draw(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` texts as the model writes them: none is drawn again, whatever it says.

        Args:
            context: the state of the run.
            n: how many.
            seed: equal seeds give equal texts.
        """
        grammar = self._grammar(json.dumps(context.offered())) if self.settings.constrained else None
        beginning = self._beginning(context)
        return self.draw_texts(self.prompt(context), beginning, n, torch.Generator().manual_seed(seed), grammar, 1.0)

    def prompt(self, context: PolicyContext) -> str:
        """Return the text that the model reads."""
        return chat_text(self.lm, policy_messages(context))

    def _beginning(self, context: PolicyContext) -> int:
        """Return how many tokens this prompt shares with those of a run's other attempts: the history comes last."""
        prompts = [
            prompt_tokens(self.lm, self.prompt(context.model_copy(update={"history": history})))
            for history in ((), (_SOME_TRIAL,))
        ]
        same = (a == b for a, b in zip(*prompts, strict=False))
        return next((i for i, equal in enumerate(same) if not equal), min(map(len, prompts)))

    def draw_texts(
        self, prompt: str, beginning: int, n: int, generator: torch.Generator, grammar: "Grammar | None", heat: float
    ) -> list[str]:
        """Draw ``n`` texts, none for none; ``heat`` multiplies the temperature, which is .5 at least where it does."""
        settings = self.settings
        if not n:
            return []
        temperature = settings.temperature if heat == 1 else heat * max(0.5, settings.temperature)
        with self.lm.adapted(self.adapter), telling(_call(self.lm, settings, n, temperature)) as usage:
            return sample(
                self.lm,
                prompt,
                n,
                temperature=temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                max_tokens=settings.max_tokens,
                generator=generator,
                grammar=grammar,
                memory=self._memory,
                beginning=beginning,
                usage=usage,
            )

    def _compile(self, schema: str) -> "Grammar | None":
        try:
            from cao.inference.grammar import Grammar  # noqa: PLC0415  (llguidance may not be installed)

            return Grammar(self.lm, on_a_grid(json.loads(schema)))
        except (
            ImportError,
            ValueError,
        ):  # no llguidance, or a tokenizer it cannot read: draw, extract, validate
            return None


def _ranked(drawn: str, tried: set[str]) -> tuple[str, int]:
    """Return the text to hand on, and its rank: free text counts by the first object in it."""
    text = answer(drawn)
    try:
        strategy = parse_strategy(text)
    except StrategyRejectedError:
        return text, _INVALID
    return text, _REPEATED if canonical_json(strategy.canonical()) in tried else _FRESH


def on_a_grid(schema: StrategySchema) -> StrategySchema:
    """Put decimals on a grid as fine as their lower bound: a grammar without one lets their digits run on for ever."""
    for family in schema["anyOf"]:
        for rule in family["properties"].values():
            if rule.get("type") == "number":
                rule["multipleOf"] = rule["minimum"] or 0.01
    return schema


def go_on(lm: LanguageModel, messages: list[Message], opening: str, settings: PolicySettings, seed: int) -> str:
    """Return how a model goes on with the opening of its reply.

    Args:
        lm: the model.
        messages: what it replies to.
        opening: what the reply begins with.
        settings: of the sampling.
        seed: equal seeds give equal texts.
    """
    with telling(_call(lm, settings, 1, settings.temperature)) as usage:
        return sample(
            lm,
            chat_text(lm, messages) + opening,
            1,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            generator=torch.Generator().manual_seed(seed),
            usage=usage,
        )[0]


def _call(lm: LanguageModel, settings: PolicySettings, n: int, temperature: float) -> Call:
    """Return what is known of a call before it is made: ``n`` texts under one prompt."""
    return Call(
        operation="chat",
        provider="cao-llm",
        model=lm.profile.name,
        choices=n,
        max_tokens=settings.max_tokens,
        temperature=temperature,
        top_p=settings.top_p,
    )


def own_model(settings: PolicySettings, lm: LanguageModel | None, offline: bool) -> LanguageModel:
    """Return the model that proposes and describes: the run's own, unless the settings name another.

    Args:
        settings: how policy and describer work.
        lm: the run's own model.
        offline: never leave this machine.

    Raises:
        InputError: no model is named, or what is named is none.
        UnavailableError: the model is not at hand.
    """
    named, path, over = settings.model, settings.model_path, settings.profile
    if named is not None:
        profile = resolve(named, over, path=path, offline=offline, of="the policy")
        profile = replace(profile, measure_style=False)  # it writes, and ranks nothing
    elif lm is not None:
        profile = laid_over(lm.profile, over) if over and path is not None else lm.profile
    else:
        raise InputError("the local policy needs a model; name one of: " + ", ".join(MODELS))
    if lm is not None and path is None and (profile.name, profile.source) == (lm.profile.name, lm.profile.source):
        return lm
    device = lm.device if lm else "cpu"
    dtype = lm.compute.dtype if lm and lm.compute else "auto"
    return _loaded(profile, path, device, dtype, offline)


@lru_cache(maxsize=1)
def _loaded(profile: ModelProfile, path: str | None, device: str, dtype: DtypeChoice, offline: bool) -> LanguageModel:
    """Load the policy's model; the describer that asks for the same one gets this one."""
    return load_language_model(profile, path=path, device=device, dtype=dtype, offline=offline)


def build(settings: PolicySettings, lm: LanguageModel | None, offline: bool, pretrained: str | None) -> LocalPolicy:
    """Return the local policy with its model and its training.

    Args:
        settings: how it works.
        lm: the run's own model, used unless the settings name another.
        offline: never leave this machine.
        pretrained: the folder of trained parts; None for the shipped one.

    Raises:
        InputError: no model is named, or the adapter is another model's.
        UnavailableError: the model is not at hand.
    """
    lm = own_model(settings, lm, offline)
    weights = _adapter(settings.adapter, lm, pretrained)
    if weights is None and settings.adapter == "auto":
        say(_untrained(lm.profile, settings.constrained))
    return LocalPolicy(lm, settings, weights)


def _adapter(named: str, lm: LanguageModel, pretrained: str | None) -> LoraWeights | None:
    """Return the trained policy's adapter: the one among the trained parts, a folder's, or none."""
    if named == "none":
        return None
    auto = named == "auto"
    weights = find_policy(lm.sha256, index_of(pretrained)) if auto else load_adapter(Path(named), lm.sha256)
    if weights is not None:
        lm.check_fit(weights)
    return weights


def _untrained(profile: ModelProfile, constrained: bool) -> str:
    """Return what to say where no policy was trained for a model, and how one is."""
    model = profile.name if known(profile.name) else profile.source
    held = ", held to strategies by their grammar" if constrained else ""
    return (
        f"no policy was trained for {profile.name}: the untrained model proposes{held}; to train one: "
        f"{training_command(model)}"
    )

"""The language model: loaded once, frozen, and given one LoRA adapter at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cao.errors import InputError, NotApplicableError
from cao.machine.compute import Compute
from cao.model.adapters import MAGNITUDE, LoraWeights, NotPlainError, initial_lora
from cao.model.fast_paths import FastPaths
from cao.model.lora_layers import Kind, LoraLayers, kind_of, magnitudes, make_lora_layers
from cao.model.profiles import ModelProfile
from cao.model.profiles.lora_targets import lora_shapes
from cao.model.soft_prompt.either import Carried
from cao.model.soft_prompt.layer import SoftPromptLayer, make_soft_prompt_layer
from cao.model.soft_prompt.weights import EMBEDDINGS, SoftPrompt
from cao.peft_folder import PREFIX

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer and profile.

    Attributes:
        profile: what the name stands for.
        model: the transformers model, evaluation mode, no gradients.
        tokenizer: its tokenizer.
        sha256: hash of the weights' files; adapters carry it.
        device: ``cpu``, ``cuda``, …
        compute: the number format it computes in, and why; None for a model that was made by hand.
        source: the hub id or the folder that it was loaded from; PEFT finds an adapter's base there.
        paths: which fast ways of computing give what its own forward gives.
        virtual: ids of the virtual tokens that stand before every text; none where no soft prompt is on.
    """

    profile: ModelProfile
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    sha256: str
    device: str = "cpu"
    compute: Compute | None = None
    source: str = ""
    paths: FastPaths = field(default_factory=FastPaths)
    virtual: list[int] = field(default_factory=list, repr=False)
    _lora_layers: dict[Kind, LoraLayers] = field(default_factory=dict, init=False, repr=False)
    _adapted: bool = field(default=False, repr=False)

    @property
    def dtype(self) -> str:
        """What it computes in, as configurations name it: ``float32``, ``bfloat16``."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def config(self) -> "PretrainedConfig":
        """The transformers configuration of what reads text: a part of it where the model reads pictures, too."""
        return self.model.config.get_text_config()

    @property
    def trunk(self) -> "PreTrainedModel":
        """The transformer without its head: token ids to normalised last hidden states (…, d)."""
        decoder = self.model.get_decoder()
        if decoder is not self.model:
            return decoder
        return self.model.model if hasattr(self.model, "model") else self.model.base_model

    @property
    def head(self) -> nn.Linear:
        """The linear layer from hidden states (…, d) to the vocabulary; ``logits`` has what comes behind it, too."""
        layer: nn.Linear = self.model.get_output_embeddings()
        return layer

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states as the architecture makes them: scaled or capped where it does so.

        Args:
            hidden: (M, d) behind the final norm; cast to the model's dtype.

        Returns:
            (M, V).
        """
        hidden = hidden.to(self.head.weight.dtype)
        if self.paths.head:
            result: Tensor = self.head(hidden)
            return result
        return self._by_model(hidden)

    def behind_head(self, products: Tensor) -> Tensor:
        """Return the logits that the architecture makes of its head's products: capped where it does so.

        Args:
            products: (M, V) of hidden states with the head.

        Returns:
            (M, V); right where ``paths.behind`` is true.
        """
        head = self.model.get_output_embeddings()
        self.model.set_output_embeddings(nn.Identity())
        try:
            return self._by_model(products)
        finally:
            self.model.set_output_embeddings(head)

    def _by_model(self, hidden: Tensor) -> Tensor:
        """Return what the model's own forward makes of what its trunk is said to have given."""
        from transformers.modeling_outputs import BaseModelOutputWithPast  # noqa: PLC0415  (seconds to import)

        trunk = self.trunk
        trunk.forward = lambda *_, **__: BaseModelOutputWithPast(last_hidden_state=hidden[None])
        try:
            ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
            made: Tensor = self.model(input_ids=ids, use_cache=False).logits[0]
            return made
        finally:
            del trunk.forward

    def exchange(self, model: "PreTrainedModel") -> None:
        """Take a model whose modules are others: LoRA layers around the former ones would bring those back."""
        self.model = model
        self._lora_layers.clear()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of ``text``."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special)
        return ids

    def end_tokens(self) -> set[int]:
        """Return every token that ends a text; instruct models end a turn and a text with different ones."""
        stated = getattr(self.model.generation_config, "eos_token_id", None)
        several = stated if isinstance(stated, list) else [stated]
        several = [*several, *map(self.tokenizer.convert_tokens_to_ids, self.profile.end_tokens)]
        return {token for token in [*several, self.tokenizer.eos_token_id] if token is not None}

    def lora_shapes(self) -> dict[str, tuple[int, int]]:
        """Return PEFT module prefix → (out, in) for every matrix that carries LoRA."""
        return lora_shapes(self.model, self.profile.lora_targets)

    def fresh_lora(self, seed: int) -> LoraWeights:
        """Return the recorded initialisation for this model (B is zero, so it changes nothing yet)."""
        profile = self.profile
        rank, alpha, targets = profile.lora_rank, profile.lora_alpha, profile.lora_targets
        return initial_lora(self.lora_shapes(), targets, rank, alpha, seed, self.sha256)

    def as_dora(self, weights: LoraWeights) -> LoraWeights:
        """Return an adapter as a DoRA adapter that computes the same; one that is DoRA already stays as it is."""
        found = {}
        for module in () if weights.dora else weights.modules():
            layer = self.model.get_submodule(module.removeprefix(PREFIX))
            a, b = weights.tensors[f"{module}.lora_A.weight"], weights.tensors[f"{module}.lora_B.weight"]
            found[f"{module}{MAGNITUDE}"] = magnitudes(layer.weight, a, b, weights.alpha / weights.rank)
        return replace(weights, tensors={**weights.tensors, **found})

    def fresh_soft_prompt(self, tokens: int, seed: int) -> SoftPrompt:
        """Return virtual tokens to begin with: embeddings of ordinary tokens of the vocabulary, drawn by a seed.

        Raises:
            NotApplicableError: the model reads the tokens themselves behind its embedding, too.

        Source: Lester et al. 2021, §3.2 (the initialisation "sampled vocabulary").
        """
        self._check_embedding()
        control = set(self.tokenizer.all_special_ids)
        ordinary = torch.tensor(sorted(set(self.tokenizer.get_vocab().values()) - control))
        drawn = ordinary[torch.randperm(len(ordinary), generator=torch.Generator().manual_seed(seed))[:tokens]]
        with torch.no_grad():
            rows = self.model.get_input_embeddings()(drawn.to(self.device))  # as texts have them: some models scale
        made = {"made_by": f"{tokens} tokens of the vocabulary, seed={seed}"}
        return SoftPrompt({EMBEDDINGS: rows.detach().cpu().float().clone()}, self.sha256, made)

    def mixed_precision(self) -> torch.autocast:
        """Return the context of one training forward: float32 LoRA parameters compute in the model's dtype.

        Enter it for each forward anew: inside one, casts of parameters are kept, and would go stale after a step.
        """
        half = self.model.dtype in (torch.bfloat16, torch.float16)
        dtype = self.model.dtype if half else torch.bfloat16
        return torch.autocast(torch.device(self.device).type, dtype=dtype, enabled=half)

    def not_finite(self) -> str:
        """Return what to say where the model's scores are not finite, and what to do about it."""
        why = "its adapter has diverged; lower the learning rate" if self._adapted else "its weights are no good"
        lower = "" if self.dtype == "float32" else f", or {self.dtype} overflows: run with --dtype float32"
        return f"the model's scores are not finite: {why}{lower}"

    def virtual_ids(self, weights: Carried | None) -> list[int]:
        """Return the ids of the virtual tokens that an adapter brings: behind the vocabulary, none but a soft prompt's.

        Whoever gives the model a text puts them before it (``virtual``, while the adapter is on).
        """
        size = len(self.model.get_input_embeddings().weight)
        return list(range(size, size + weights.tokens)) if isinstance(weights, SoftPrompt) else []

    @contextmanager
    def adapted(self, weights: Carried | None, *, trainable: bool = False) -> Iterator[dict[str, Tensor]]:
        """Give the model an adapter for the length of the block; the base weights are never written.

        Args:
            weights: the adapter, a soft prompt, or None for the plain base model.
            trainable: whether its parameters take gradients; they are float32 then, else in the model's dtype.

        Yields:
            The live parameters by their PEFT names (empty for None).

        Raises:
            InputError: the adapter belongs to another base model or does not fit this one's shapes.
        """
        if weights is None:
            yield {}
            return
        if self._adapted:
            raise RuntimeError("adapters do not nest: leave the first block before entering a second")
        self.check_fit(weights)
        layers = self._layers(weights)
        live = layers.parameters
        for name, parameter in live.items():
            # float32 beside a bf16 model makes a forward five times as slow on a CPU
            parameter.data = weights.tensors[name].to(
                self.device, torch.float32 if trainable else self.model.dtype, copy=True
            )
            parameter.grad = None
            parameter.requires_grad_(trainable)
        layers.attach()
        self._adapted, self.virtual = True, self.virtual_ids(weights)
        try:
            yield {**live}
        finally:
            layers.detach()
            self._adapted, self.virtual = False, []

    def _layers(self, weights: Carried) -> LoraLayers | SoftPromptLayer:
        """Return what is attached for an adapter; LoRA's layers are kept for the next one of the kind."""
        if isinstance(weights, SoftPrompt):
            return make_soft_prompt_layer(self.model, self.model.get_input_embeddings(), weights)
        kind = kind_of(self.model, weights)
        if kind not in self._lora_layers:
            self._lora_layers[kind] = make_lora_layers(self.model, weights)
        return self._lora_layers[kind]

    def _check_embedding(self) -> None:
        """Raise NotApplicableError where layers have embeddings of their own: virtual tokens have none there."""
        if getattr(self.config, "hidden_size_per_layer_input", 0):
            raise NotApplicableError(f"{self.profile.name} has embeddings in every layer; a soft prompt has none there")

    def check_fit(self, weights: Carried) -> None:
        """Raise InputError where an adapter belongs to another base model or has other shapes."""
        if weights.base_sha256 and weights.base_sha256 != self.sha256:
            raise InputError(
                f"the adapter was made for base model {weights.base_sha256[:12]}, this one is {self.sha256[:12]}"
            )
        if isinstance(weights, SoftPrompt):
            self._check_embedding()
            width = self.model.get_input_embeddings().weight.shape[1]
            if weights.width != width:
                raise InputError(
                    f"the soft prompt is {weights.width} wide, and {self.profile.name}'s tokens are {width}"
                )
            return
        shapes = self.lora_shapes()
        modules = {m for m in shapes if m.rsplit(".", 1)[-1] in weights.targets}
        if set(weights.modules()) != modules:
            raise NotPlainError(f"the adapter's modules are not those of {self.profile.name}")
        for module in modules:
            out_features, in_features = shapes[module]
            a, b = weights.tensors[f"{module}.lora_A.weight"], weights.tensors[f"{module}.lora_B.weight"]
            if tuple(a.shape) != (weights.rank, in_features) or tuple(b.shape) != (
                out_features,
                weights.rank,
            ):
                raise InputError(f"the adapter's {module} does not fit {self.profile.name}")
            if weights.dora and tuple(weights.tensors[f"{module}{MAGNITUDE}"].shape) != (out_features,):
                raise InputError(f"the adapter's magnitudes of {module} do not fit {self.profile.name}")

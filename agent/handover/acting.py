"""What a model answers with an adapter and without it, by transformers and PEFT, as others load them."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from agent.handover.base_model import plain_model
from agent.handover.comparison import TOKENS, Answer
from cao.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def both(
    folder: Path, base: str, prompts: list[str], *, offline: bool
) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Return the base model's answers, the same again, and those with the adapter.

    Args:
        folder: a PEFT folder.
        base: the base model's folder or hub id.
        prompts: texts.
        offline: never touch the network.

    Raises:
        UnavailableError: the base model is not at hand.
        InputError: PEFT finds no layer for some of the weights.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=offline)
        model = plain_model(base, offline=offline)
    except Exception as error:  # noqa: BLE001  (a damaged folder raises whatever transformers meets in it)
        why = f"{base}: cannot be loaded ({type(error).__name__})"
        raise UnavailableError(f"{why}; give the model with --base") from None
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:  # noqa: BLE001  (PEFT raises whatever it meets)
        raise InputError(f"{folder}: PEFT cannot put it on {base} ({str(error).splitlines()[0][:200]})") from None
    if any("adapter keys" in str(one.message) for one in said):
        raise InputError(f"{folder}: PEFT finds no layer, or no weights, for a part of it on {base}")
    with adapted.disable_adapter():
        first = [_answer(adapted, tokenizer, prompt) for prompt in prompts]
        again = [_answer(adapted, tokenizer, prompt) for prompt in prompts]
    return first, again, [_answer(adapted, tokenizer, prompt) for prompt in prompts]


@torch.inference_mode()
def _answer(model: PeftModel, tokenizer: "PreTrainedTokenizerBase", prompt: str) -> Answer:
    """Write behind a prompt greedily, with the log-probability of each token."""
    read = tokenizer(prompt, return_tensors="pt").input_ids
    written, logprobs, kept = list[int](), list[float](), None
    whole = model.active_peft_config.is_prompt_learning  # PEFT puts virtual tokens before whatever it is given
    for _ in range(TOKENS):
        output = model(input_ids=read, past_key_values=kept, use_cache=not whole)
        kept, (score, token) = output.past_key_values, output.logits[0, -1].float().log_softmax(-1).max(-1)
        logprobs.append(float(score))
        written.append(int(token))
        read = torch.cat([read, token.view(1, 1)], 1) if whole else token.view(1, 1)
    return Answer(text=str(tokenizer.decode(written)), logprobs=logprobs)

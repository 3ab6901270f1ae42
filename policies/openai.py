"""The remote policy: GPT-4o-mini, or anything that speaks its API."""

from collections import Counter

from cao.files import canonical_json
from cao.strategy import FAMILIES, StrategyRejectedError, parse_strategy, strategy_schema
from policies.base import PolicyContext, PolicySettings
from policies.chat_client import ChatClient
from policies.extract import unwrap
from policies.messages import policy_messages

RESAMPLES = 2
"""How often a reply that repeats an attempt is asked for again; each is a request that counts."""


class OpenAIPolicy:
    """Asks a remote model for strategies by structured output.

    Attributes:
        name: ``openai``.
        stats: how often each outcome of a request occurred, and how often a reply was ``repeated`` from the history.
    """

    name = "openai"

    def __init__(self, settings: PolicySettings, *, offline: bool) -> None:
        """Prepare the client; nothing is sent.

        Args:
            settings: model, address, sampling and budget; ``top_k`` is unknown to this API.
            offline: refuse every address but this machine's own.

        Raises:
            UnavailableError: no key, or an address that offline work forbids.
        """
        self._client = ChatClient(settings, offline=offline)
        self._max_tokens = settings.max_tokens
        self.stats: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"OpenAIPolicy({self._client!r})"

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` raw texts; one that was cut, refused or empty comes back as it is and will be rejected.

        Args:
            context: the state of the run.
            n: how many, each a request of its own, and up to two more where it repeats an attempt of this run.
            seed: passed on with the request.

        Raises:
            UnavailableError: the server cannot be had, or the budget is spent.
        """
        # the API refuses oneOf and wants one object at the root, so the plain union stands under a key
        union = strategy_schema(list(context.families or FAMILIES))
        schema = {
            "type": "object",
            "properties": {"strategy": union},
            "required": ["strategy"],
            "additionalProperties": False,
        }
        messages = policy_messages(context)
        texts = []
        for i in range(n):
            for again in range(1 + RESAMPLES):
                reply = self._client.ask(messages, schema, seed=seed + i + again * n, max_tokens=self._max_tokens)
                self.stats[reply.outcome] += 1
                text = unwrap(reply.text)
                if not _repeats(text, context.tried):
                    break
                self.stats["repeated"] += 1
            texts.append(text)
        return texts


def _repeats(text: str, tried: set[str]) -> bool:
    try:
        return canonical_json(parse_strategy(text).canonical()) in tried
    except StrategyRejectedError:
        return False

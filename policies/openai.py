"""The remote policy: GPT-4o-mini, or anything that speaks its API."""

from collections import Counter
from collections.abc import Mapping

from cao.errors import UnavailableError
from cao.files import canonical_json
from cao.policy_settings import PolicySettings
from cao.strategy import StrategyRejectedError, parse_strategy
from policies.base import REPLIES, PolicyContext, RequestForm
from policies.client.chat import ChatClient, ChatReply
from policies.extract import answer
from policies.messages import policy_messages, with_rejected

MOST_TOKENS = 4096
REPEATED = "this strategy was tried already, or cannot act on the current model"


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
        self.client = ChatClient(settings, offline=offline)
        self._max_tokens, self._temperature = settings.max_tokens, settings.temperature
        self.stats: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"OpenAIPolicy({self.client!r})"

    @property
    def form(self) -> RequestForm:
        """The form of request that the server takes, as far as is known."""
        return self.client.form

    @form.setter
    def form(self, form: RequestForm) -> None:
        self.client.form = form

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` texts, each the object of a reply, or the reply itself where it holds none.

        Args:
            context: the state of the run.
            n: how many, each a request of its own, and up to two more where the reply is no strategy or repeats one.
            seed: passed on with the request.

        Raises:
            UnavailableError: the server cannot be had, or the budget is spent.
        """
        # the API refuses oneOf and wants one object at the root, so the plain union stands under a key
        union = context.offered(every_key=True)
        schema = {
            "type": "object",
            "properties": {"strategy": union},
            "required": ["strategy"],
            "additionalProperties": False,
        }
        return [self._ask(context, schema, [seed + i + again * n for again in range(REPLIES)]) for i in range(n)]

    def _ask(self, context: PolicyContext, schema: Mapping[str, object], seeds: list[int]) -> str:
        """Return one text. What is asked again is asked otherwise: it says what was wrong with the replies so far.

        A repetition is asked again at a higher temperature too, a reply that was cut off with room for a longer one.
        """
        text, messages, tokens = "", policy_messages(context), self._max_tokens
        rejected: list[tuple[str, str]] = []
        temperature = None
        for seed in seeds:
            try:
                reply = self.client.ask(
                    with_rejected(messages, rejected), schema, seed=seed, max_tokens=tokens, temperature=temperature
                )
            except UnavailableError:
                if not rejected:
                    raise
                break  # the reply in hand counts as an attempt, and the next one finds out whether the server is back
            self.stats[reply.outcome] += 1
            text = answer(reply.text)
            fault = _fault(text, reply, tokens, context.spent)
            if fault is None:
                break
            rejected.append((text, fault))
            if fault == REPEATED:
                self.stats["repeated"] += 1
                temperature = max(0.5, self._temperature) * 2 ** len(rejected)
            if reply.outcome == "truncated":
                tokens = max(tokens, min(4 * tokens, MOST_TOKENS))
        return text


def _fault(text: str, reply: ChatReply, tokens: int, tried: set[str]) -> str | None:
    """Return why a reply cannot be used, None where it can."""
    try:
        strategy = parse_strategy(text)
    except StrategyRejectedError as error:
        reasons = {
            "truncated": f"it was cut off after {tokens} tokens",
            "refused": "it refused",
            "empty": "it was empty",
        }
        return reasons.get(reply.outcome, str(error))
    return REPEATED if canonical_json(strategy.canonical()) in tried else None

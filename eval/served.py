"""What a server's model answers to a task's questions, with an adapter that the server has by name or without."""

from collections.abc import Sequence

from pydantic import ValidationError

from agent.handover.served import on_server
from cao.configuration import first_error
from cao.errors import InputError
from cao.model.answer_style import style_by
from cao.model.profiles import known
from cao.progress import Progress, say
from cao.tasks.base import Task
from cao.types import AnswerProtocol, AnswerStyle, Example, Item, Query, Record
from eval.options import ScoreOptions
from policies.client.completions import CompletionClient, ServerSettings
from policies.client.read_back import score_on_server
from tools.evaluate import ranking
from tools.evaluate.written import Written, grade_texts

COMPARED = 6
"""Questions on which an adapter must differ from its base model somewhere."""


class ServedAnswers(Record):
    """What was answered.

    Attributes:
        model: the base model's name at the server.
        server: its address.
        adapter: the adapter's name there, None without one.
        protocol: how the model was asked.
        answer_style: whether texts or letters were ranked; None where answers were written.
        items: of the questions, in their order; ``Item`` where choices were ranked.
    """

    model: str
    server: str
    adapter: str | None
    protocol: AnswerProtocol
    answer_style: AnswerStyle | None
    items: list[Item] | list[Written]


def answers_of_server(options: ScoreOptions, task: Task, examples: list[Example], progress: Progress) -> ServedAnswers:
    """Ask a server all questions.

    Args:
        options: what the command takes.
        task: whose questions they are.
        examples: the questions.
        progress: called after each batch.

    Raises:
        InputError: the address or the names cannot be used, the server serves the base model in the adapter's place, or
            the protocol does not fit the questions.
        UnavailableError: the server is not at hand, or cannot do what is needed.
    """
    protocol: AnswerProtocol = options.protocol or ("likelihood" if all(e.choices for e in examples) else "generate")
    if protocol == "likelihood" and not all(example.choices for example in examples):
        raise InputError(f"{task.name} has questions without choices to rank; use --protocol generate")
    settings, model = _settings(options), options.server_model or options.model
    client = CompletionClient(settings, offline=options.offline)
    if options.server_adapter:
        _check_acts(options, model, [task.ask(example) for example in examples[:COMPARED]])
    style = _style(options, client) if protocol == "likelihood" else None
    if style:
        queries = [task.query(example, style) for example in examples]
        items: list[Item] | list[Written] = ranking(examples, score_on_server(client, queries, progress))
    else:
        prompts = [task.ask(example) for example in examples]
        texts = client.write(prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, progress=progress)
        items = grade_texts(task, examples, texts)
    return ServedAnswers(
        model=model,
        server=settings.url,
        adapter=options.server_adapter,
        protocol=protocol,
        answer_style=style,
        items=items,
    )


def _settings(options: ScoreOptions) -> ServerSettings:
    if options.adapter:
        refusal = f"the adapter {options.adapter} cannot be put on a model that {options.server} serves"
        raise InputError(f"{refusal}; let the server serve it and give its name there: --server-adapter NAME")
    try:
        return ServerSettings(
            url=options.server,
            model=options.server_adapter or options.server_model or options.model,
            batch=options.server_batch,
            concurrency=options.server_concurrency,
        )
    except ValidationError as error:
        raise InputError(f"--server: {first_error(error)[1]}; write it like http://127.0.0.1:8000/v1") from None


def _check_acts(options: ScoreOptions, base: str, prompts: list[str]) -> None:
    """Raise InputError where a server serves the base model by the adapter's name, as some do for an unknown one."""
    adapter = options.server_adapter
    if adapter == base:
        raise InputError("--server-adapter is the base model's name; give that one as --server-model")
    verdict = on_server(str(options.server), base, adapter, prompts, offline=options.offline)
    if not verdict.acts:
        raise InputError(
            f"--server-adapter {adapter}: {verdict.reason}; check the name, and that the server has loaded the adapter"
        )


def _style(options: ScoreOptions, client: CompletionClient) -> AnswerStyle:
    """Return how choices are ranked: as it is set, as a known model's profile says, or as easy questions tell."""
    stated, profile = options.profile.answer_style, None if options.server_model else known(options.model)
    if stated and stated != "measured":
        return stated
    if profile is not None and stated is None:
        return profile.answer_style

    def best(queries: Sequence[Query]) -> list[int]:
        scored = score_on_server(client, queries)
        means = [[branch.logprob / branch.tokens for branch in score.branches] for score in scored]
        return [one.index(max(one)) for one in means]

    style, why = style_by(best)
    say(f"{client.settings.model}: answers by {style} ({why}); --set profile.answer_style=text or letter settles it")
    return style

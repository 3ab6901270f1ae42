"""How a user's file was read: what is shown before a run, and what its record keeps."""

from cao.types import Record


class FileReading(Record):
    """How a user's file was read.

    Attributes:
        format: of the file, for people.
        rows: in it; ``questions`` of them were kept.
        questions: different ones.
        keys: role (question, choices, answer, context) → the keys that it was read from.
        guessed: whether any of them was guessed from its name.
        answers: what answers are given as, such as ``letters``; ``none`` where the file has no answers.
        ignored: keys that were not read.
        notes: what a person should know, in sentences without their full stop.
    """

    format: str
    rows: int
    questions: int
    keys: dict[str, str]
    guessed: bool = False
    answers: str = "none"
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether nothing of it needs saying: this project's own names in JSONL, all of them read, answers from 0."""
        own = self.format == "JSONL" and all(role == key for role, key in self.keys.items())
        own = own and self.rows == self.questions
        return own and not (self.ignored or self.notes or self.answers in ("none", "indexes from 1"))

    def sentences(self) -> list[str]:
        """Return it for people, a line each, the sentence on the keys first."""
        keys = ", ".join(f"{role}={key}" for role, key in self.keys.items())
        how = ", guessed (--map changes it)" if self.guessed else ""
        told = [f"{self.format}: {self.questions} questions of {self.rows} rows; {keys}{how}; answers: {self.answers}"]
        told += [f"not read: {', '.join(self.ignored)}"] if self.ignored else []
        return told + list(self.notes)

"""What the server counts, as Prometheus reads it; names of models are those of the roster and nothing of a request."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """One server's counters."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("cao_requests", "Requests answered", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "cao_request_seconds", "Time of a request", ["route"], buckets=SECONDS, registry=registry
        )
        self.first = Histogram(
            "cao_first_piece_seconds", "Time to a text's first piece", buckets=SECONDS, registry=registry
        )
        self.answers = Counter("cao_answers", "Answers, by the model that gave them", ["model"], registry=registry)
        self.tokens = Counter("cao_tokens", "Tokens read and written", ["kind"], registry=registry)
        self.watched = Counter("cao_watched_prompts", "Prompts given to the stream detector", registry=registry)
        self.watching = Counter("cao_watch_cpu_seconds", "Processor time of the detector's thread", registry=registry)
        self.unwatched = Counter(
            "cao_unwatched_prompts", "Prompts that the detector had no time for", registry=registry
        )
        self.events = Counter("cao_events", "Alarms, adaptations, swaps and rollbacks", ["event"], registry=registry)
        self.feedback = Counter("cao_feedback", "Feedback taken", ["verdict"], registry=registry)
        self.current = Gauge("cao_current_model", "1 for the model that is current", ["model"], registry=registry)

    def gauge(self, name: str, words: str, read: Callable[[], float]) -> None:
        """Add what is read when it is asked for."""
        Gauge(name, words, registry=self._registry).set_function(read)

    def now_current(self, model: str) -> None:
        """Say which model is current."""
        self.current.clear()
        self.current.labels(model).set(1)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self._registry)

"""Spans as OpenTelemetry's own, sent over OTLP or written to a file; needs the extra ``otel``.

The environment variables of OpenTelemetry's SDK hold, ``OTEL_SERVICE_NAME`` and ``OTEL_TRACES_SAMPLER`` among them.
Keys are in ``OTEL_EXPORTER_OTLP_HEADERS``, which the exporter alone reads.
"""

import logging
from collections.abc import Sequence
from typing import IO

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from agent.telemetry.spans import Span, span_id, trace_id
from cao import __version__
from policies.client.address import is_loopback

NAME = "cao-llm"


class _Ids(IdGenerator):  # type: ignore[misc]
    """Gives each span the id that follows from its run's."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.key = run_id, ""

    def generate_trace_id(self) -> int:
        return trace_id(self.run_id)

    def generate_span_id(self) -> int:
        return span_id(self.run_id, self.key)


def finished(run_id: str, spans: Sequence[Span]) -> list[ReadableSpan]:
    """Return the spans that have ended, as the SDK makes them.

    Args:
        run_id: whose they are.
        spans: a parent before its children.
    """
    ids, ended = _Ids(run_id), InMemorySpanExporter()
    named = Resource.create({SERVICE_VERSION: __version__})  # the environment names it, where it does
    if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=named, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ended))
    tracer = provider.get_tracer(NAME, __version__)
    contexts: dict[str, Context] = {}
    for span in spans:
        ids.key = span.key
        kind = SpanKind.CLIENT if span.remote else SpanKind.INTERNAL
        above = contexts[span.parent] if span.parent else None
        made = tracer.start_span(span.name, above, kind, span.attributes, start_time=span.start)
        contexts[span.key] = set_span_in_context(made)
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        if span.end is not None:
            made.end(span.end)
    return list(ended.get_finished_spans())


def over_otlp(endpoint: str) -> SpanExporter:
    """Return what sends spans to a collector.

    Args:
        endpoint: the address that takes spans, with its path.
    """
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what failed is told in one line of ours
    session = requests.Session()
    if is_loopback(endpoint):  # a proxy or a redirect would lead a local address off this machine
        session.trust_env, session.max_redirects = False, 0
    return OTLPSpanExporter(endpoint, session=session)


def into(stream: IO[str]) -> SpanExporter:
    """Return what writes each span as a line of JSON, in the SDK's own form."""
    return ConsoleSpanExporter(out=stream, formatter=lambda span: f"{span.to_json(indent=None)}\n")


def sent(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> bool:
    """Hand spans over; return whether they were taken."""
    return exporter.export(spans) is SpanExportResult.SUCCESS

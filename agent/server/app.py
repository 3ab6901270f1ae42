"""The routes."""

from collections.abc import Callable
from typing import Protocol

from fastapi import FastAPI
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response

from agent.server.errors import ApiError, of_cao, unknown_model
from agent.server.metrics import Metrics
from agent.server.wire import Feedback, read
from cao import __version__
from cao.errors import CaoError


class Answers(Protocol):
    """What answers requests: the model here, or a server behind this one."""

    async def completion(self, http: Http) -> Response:
        """Answer ``POST /v1/completions``."""

    async def chat(self, http: Http) -> Response:
        """Answer ``POST /v1/chat/completions``."""


def make_app(
    answers: Answers,
    models: Callable[[], list[dict[str, JsonValue]]],
    feedback: Callable[[Feedback], dict[str, JsonValue]],
    health: Callable[[], dict[str, JsonValue]],
    metrics: Metrics,
) -> FastAPI:
    """Return the application.

    Args:
        answers: to completions and chats.
        models: those that are served, as the list of them has them.
        feedback: takes feedback, and says what became of it; a user's grader may take its time.
        health: how the server is; its ``status`` is ``ok`` or what is wrong.
        metrics: what is counted.
    """
    app = FastAPI(title="cao serve", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False  # a path beside a route is none, and is refused as any other

    @app.get("/health")
    async def _health() -> JSONResponse:
        told = await run_in_threadpool(health)  # it waits for what is being written to the disk
        return JSONResponse(told, 200 if told["status"] == "ok" else 503)

    @app.get("/metrics")
    async def _metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def _models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": models()})

    @app.get("/v1/models/{name:path}")
    async def _model(name: str) -> JSONResponse:
        if not name:
            raise HTTPException(404)
        served = {str(one["id"]): one for one in models()}
        if name not in served:
            raise unknown_model(name, list(served))
        return JSONResponse(served[name])

    @app.post("/v1/completions")
    async def _completions(http: Http) -> Response:
        return await answers.completion(http)

    @app.post("/v1/chat/completions")
    async def _chat(http: Http) -> Response:
        return await answers.chat(http)

    @app.post("/v1/feedback")
    async def _feedback(http: Http) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(feedback, await read(Feedback, http)))

    _say_errors(app)
    return app


def _say_errors(app: FastAPI) -> None:
    """Have every error answered in one shape."""

    @app.exception_handler(ApiError)
    async def _api(http: Http, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(CaoError)
    async def _cao(http: Http, error: CaoError) -> JSONResponse:
        return of_cao(error).response()

    @app.exception_handler(HTTPException)
    async def _http(http: Http, error: HTTPException) -> JSONResponse:
        words = {404: "there is nothing at this path", 405: "this path takes another method"}
        return ApiError(error.status_code, words.get(error.status_code, str(error.detail)), "no_such_route").response()

    @app.exception_handler(Exception)
    async def _defect(
        http: Http, error: Exception
    ) -> JSONResponse:  # it is raised again behind this; the guard says so
        return ApiError(500, "the request failed inside the server", "internal_error").response()

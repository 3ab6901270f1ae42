"""What goes wrong with a request, in the shape that OpenAI's clients read."""

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.responses import JSONResponse

from cao.configuration import explain
from cao.encodings import visible
from cao.errors import CaoError, InputError, UnavailableError

MOST_WORDS = 500
"""Characters of a message: a request's own text may be in it."""

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "upstream_error",
    503: "unavailable_error",
}


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: of HTTP.
        message: one line that says what is wrong.
        code: for programs.
        param: the key of the request that is wrong.
        headers: that go with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """Return it as HTTP has it."""
        return JSONResponse(self.body(), self.status, self.headers)

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return it as JSON has it."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        message = " ".join(visible(self.message[:MOST_WORDS]).split())
        param = None if self.param is None else visible(self.param)  # keys of a body may be in it
        return {"error": {"message": message, "type": kind, "param": param, "code": self.code}}


def invalid(error: ValidationError) -> ApiError:
    """Return what is wrong with a request's body."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(map(str, first["loc"]))[:80]
    broken = first["type"] == "json_invalid"
    return ApiError(400, explain(error), "invalid_json" if broken else "invalid_value", param or None)


def of_cao(error: CaoError) -> ApiError:
    """Return an expected error of the project as an answer."""
    if isinstance(error, InputError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, UnavailableError):
        return ApiError(503, str(error), "unavailable")
    return ApiError(500, str(error), "not_answered")


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Return that nobody is called so."""
    few = ", ".join(known[:20])
    return ApiError(404, f"no model {name[:80]!r}; served are {few}", "model_not_found", "model")

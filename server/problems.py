"""Errors become HTTP here, and nowhere else: RFC 9457 for every refusal, the document's list for a broken contract."""

from __future__ import annotations

import orjson
import peewee
import structlog
from connexion.exceptions import OAuthProblem
from connexion.lifecycle import ConnexionRequest, ConnexionResponse
from playhouse.pool import MaxConnectionsExceeded
from starlette.exceptions import HTTPException

from factors import errors
from server import tokens
from server.validation import ContractBroken

log = structlog.get_logger()

PROBLEM = "application/problem+json"
NO_STORE = {"Cache-Control": "no-store"}
_BY_STATUS = {404: errors.NotFound, 405: errors.MethodNotAllowed, 401: errors.Unauthenticated}
# TimeoutError is a handler that did not come back in time.
_DATABASE = (peewee.OperationalError, peewee.InterfaceError, peewee.InternalError, MaxConnectionsExceeded, TimeoutError)

Rendered = tuple[int, dict[str, str], bytes]


def render(error: Exception) -> Rendered:
    """Status, headers and body of the answer to an error."""
    if isinstance(error, ContractBroken):
        return 422, {"Content-Type": "application/json", **NO_STORE}, orjson.dumps({"detail": error.rows})
    refusal = _refusal(error)
    headers = {"Content-Type": PROBLEM, **NO_STORE}
    if refusal.status == errors.Unauthenticated.status or isinstance(refusal, errors.InsufficientScope):
        headers["WWW-Authenticate"] = tokens.challenge(refusal)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    body = {
        "type": f"/problems/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    return refusal.status, headers, orjson.dumps(body)


def _refusal(error: Exception) -> errors.Refusal:
    if isinstance(error, errors.Refusal):
        return error
    if isinstance(error, _DATABASE):
        # The text of a database error can hold values, so only its kind is told.
        log.error("storage.unavailable", kind=type(error).__name__)
        return errors.StorageUnavailable()
    if isinstance(error, OAuthProblem):
        return errors.Unauthenticated()
    if isinstance(error, HTTPException) and error.status_code in _BY_STATUS:
        return _BY_STATUS[error.status_code]()
    log.error("internal_error", exc_info=error)
    return errors.InternalError()


async def answer(_request: ConnexionRequest, error: Exception) -> ConnexionResponse:
    """The one error handler that the application registers."""
    status, headers, body = render(error)
    content_type = headers.pop("Content-Type")
    return ConnexionResponse(status_code=status, headers=headers, content_type=content_type, body=body)

"""Every way a request can be refused, as data. `server/problems.py` turns them into HTTP, in one place.

Refusal
├── MalformedRequest         400 no HTTP that can be read
├── Unauthenticated          401 no Bearer token
├── InvalidToken             401 a Bearer token that does not verify
├── StepUpRequired           401 this needs a fresh proof of a factor, or a fresh login
├── InvalidCode              403 wrong, expired, replayed or foreign code
├── InvalidCredential        403 a WebAuthn response that fails any check
├── InsufficientScope        403 a token without the scope that this takes
├── DeviceNotFound           404 unknown, or another user's
├── ChallengeNotFound        404 unknown, expired, used up, or another user's
├── NotFound                 404 no such path
├── MethodNotAllowed         405
├── NotAcceptable            406
├── AlreadyEnabled           409
├── NotEnabled               409
├── NoPendingEnrolment       409
├── EmailMissing             409
├── CredentialExists         409
├── TooManyDevices           409
├── TotpRequired             409
├── PayloadTooLarge          413
├── UnsupportedMediaType     415
├── TooManyAttempts          429 with Retry-After
├── TooManyEmails            429 with Retry-After
├── HeadTooLarge             431
├── InternalError            500 our fault
├── StorageUnavailable       503 with Retry-After
└── KeysUnavailable          503 with Retry-After
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A request is refused. Nothing it asked for has happened.

    Args:
        detail: One sentence that tells the caller what to do; never a secret, a code or a library's text.
        retry_after: Seconds after which the same request may succeed.
        reason: A word for the audit trail and the log; the caller never sees it.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]
    detail: str = ""

    def __init__(self, detail: str | None = None, *, retry_after: int | None = None, reason: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        self.retry_after = retry_after
        self.reason = reason
        super().__init__(self.code)


class MalformedRequest(Refusal):
    code, title, status = "malformed_request", "Malformed request", 400
    detail = "This is no HTTP/1.1 request. What sends it, or a proxy in between, is at fault."


class Unauthenticated(Refusal):
    code, title, status = "unauthenticated", "Authentication required", 401
    detail = "Send an access token of your identity provider: Authorization: Bearer <token>."


class InvalidToken(Refusal):
    code, title, status = "invalid_token", "Invalid access token", 401
    detail = "The access token is expired, malformed or not meant for this server. Obtain a new one."


class StepUpRequired(Refusal):
    """RFC 9470. `acr_values` are those that would do, best first; `max_age` is in seconds."""

    code, title, status = "step_up_required", "Step-up required", 401
    detail = "Verify a factor and send the assertion in the header MFA-Assertion; for a first factor, log in again."

    def __init__(self, *, acr_values: tuple[str, ...] = (), max_age: int, reason: str | None = None) -> None:
        super().__init__(reason=reason)
        self.acr_values = acr_values
        self.max_age = max_age


class InvalidCode(Refusal):
    code, title, status = "invalid_code", "Invalid code", 403
    detail = "The code was not accepted. Enter a current code that has not been used before."


class InvalidCredential(Refusal):
    code, title, status = "invalid_credential", "Invalid credential", 403
    detail = "The security key's answer was not accepted. Begin again."


class InsufficientScope(Refusal):
    code, title, status = "insufficient_scope", "Insufficient scope", 403
    detail = "The access token lacks the scope that this takes. The header WWW-Authenticate names it."

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope


class DeviceNotFound(Refusal):
    code, title, status = "device_not_found", "Device not found", 404
    detail = "You have no such device. List your methods to see what there is."


class ChallengeNotFound(Refusal):
    code, title, status = "challenge_not_found", "Challenge not found", 404
    detail = "There is no such open challenge. Begin again."


class NotFound(Refusal):
    code, title, status = "not_found", "Not found", 404
    detail = "There is nothing at this path. The paths are listed in /openapi.json."


class MethodNotAllowed(Refusal):
    code, title, status = "method_not_allowed", "Method not allowed", 405
    detail = "This path does not take that method. The header Allow names those it takes."


class NotAcceptable(Refusal):
    code, title, status = "not_acceptable", "Not acceptable", 406
    detail = "Answers are application/json. Let the header Accept allow it."


class AlreadyEnabled(Refusal):
    code, title, status = "already_enabled", "Already enabled", 409
    detail = "This method is on. Disable it before you set it up anew."


class NotEnabled(Refusal):
    code, title, status = "not_enabled", "Not enabled", 409
    detail = "This method is not on."


class NoPendingEnrolment(Refusal):
    code, title, status = "no_pending_enrolment", "No pending enrolment", 409
    detail = "There is nothing to confirm, or it has expired. Call enable first."


class EmailMissing(Refusal):
    code, title, status = "email_missing", "E-mail address missing", 409
    detail = "The access token has no usable claim `email`. Ask for a token that carries one address."


class CredentialExists(Refusal):
    code, title, status = "credential_exists", "Credential exists", 409
    detail = "This security key is already registered."


class TooManyDevices(Refusal):
    code, title, status = "too_many_devices", "Too many devices", 409
    detail = "No further security key can be added. Remove one first."


class TotpRequired(Refusal):
    code, title, status = "totp_required", "Authenticator app required", 409
    detail = "This takes a code of an authenticator app. Set one up first."


class PayloadTooLarge(Refusal):
    code, title, status = "payload_too_large", "Payload too large", 413
    detail = "A body may have 64 KiB."


class UnsupportedMediaType(Refusal):
    code, title, status = "unsupported_media_type", "Unsupported media type", 415
    detail = "Send the body as Content-Type: application/json, in UTF-8."


class TooManyAttempts(Refusal):
    code, title, status = "too_many_attempts", "Too many attempts", 429
    detail = "Too many wrong codes. Wait as long as the header Retry-After says."


class TooManyEmails(Refusal):
    code, title, status = "too_many_emails", "Too many e-mails", 429
    detail = "Too many e-mails were asked for. Wait as long as the header Retry-After says."


class HeadTooLarge(Refusal):
    code, title, status = "head_too_large", "Head too large", 431
    detail = "The request line and the headers together may have 64 KiB."


class InternalError(Refusal):
    code, title, status = "internal_error", "Internal error", 500
    detail = "This is our fault. The log names it under the request's id."


class StorageUnavailable(Refusal):
    code, title, status = "storage_unavailable", "Storage unavailable", 503
    detail = "The database does not answer. Nothing is half done. Try again."

    def __init__(self, detail: str | None = None, *, retry_after: int | None = 2, reason: str | None = None) -> None:
        super().__init__(detail, retry_after=retry_after, reason=reason)


class KeysUnavailable(Refusal):
    code, title, status = "keys_unavailable", "Keys unavailable", 503
    detail = "The identity provider's keys cannot be fetched. Try again."

    def __init__(self, detail: str | None = None, *, retry_after: int | None = 10, reason: str | None = None) -> None:
        super().__init__(detail, retry_after=retry_after, reason=reason)

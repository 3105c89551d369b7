"""Every setting of the server, read from the environment: `data_dir` is MFA_DATA_DIR, and so on.

In development, keys that are not given are made up as the settings are read (`server/development.py`). Production
refuses that, and whatever was made up before. No message ever repeats what a setting holds: it may be a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server import development
from server.setting_types import (
    DatabaseUrl,
    JwksUrl,
    KeyFile,
    Name,
    Origins,
    PublicUrl,
    RpId,
    SealingKeys,
    SigningKeyFile,
    Words,
)

PREFIX = "MFA_"
# What production must be given, and what to write.
NEEDED = {
    "secret_keys": "id:base64, with the base64 from `openssl rand -base64 32`",
    "signing_key_file": "the file of a key from `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
    "jwt_issuer": "the `iss` of your identity provider's access tokens",
    "jwt_key_file": "it, or MFA_JWT_JWKS_URL, or MFA_JWT_SECRET",
    "smtp_url": "smtp+starttls://user:password@host:port",
    "mail_from": "the address that sends the mail",
}
MADE_UP = {
    "secret_keys": development.secret_keys,
    "signing_key_file": development.signing_key_file,
    "jwt_key_file": development.jwt_key_file,
}
# Claims with a meaning of their own (RFC 7519 section 4.1), which a tenant would take the place of.
REGISTERED_CLAIMS = {"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}
# A setting that hangs on another one which is wrong: the other's line is enough.
UNDECIDED = "undecided"
TEXTS = {"bool_parsing": "must be true or false.", "int_parsing": "must be a whole number."}


class WrongSettings(Exception):
    """The server cannot start like this; `lines` say, one for each wrong setting, what to write instead."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


class Settings(BaseSettings):
    """All settings. `load` reads them for a command; making one raises pydantic's ValidationError, without values."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        validate_default=True,
    )

    env: Literal["development", "production"] = Field(
        default="development", description="`production` refuses made-up keys and mail that goes to files."
    )
    data_dir: Path = Field(default=Path("mfa-data"), description="The folder for all that the server keeps itself.")
    database_url: DatabaseUrl = Field(
        default="",
        description="sqlite:///path/to/file.db or postgresql://user:password@host:port/name. "
        "Default: mfa.db in the data folder.",
        repr=False,
    )
    database_pool: int = Field(
        default=10,
        ge=1,
        le=100,
        description="How many connections to PostgreSQL, and so handlers, a worker may have at work.",
    )
    secret_keys: SealingKeys = Field(
        default={},
        description="The keys that seal secrets: id:base64 of 32 bytes, comma-separated, newest first. "
        "Default: one made up in the data folder.",
        repr=False,
    )
    signing_key_file: SigningKeyFile = Field(
        default=Path(),
        description="The P-256 private key that signs assertions, in PEM. Default: one made up in the data folder.",
    )
    jwt_issuer: str = Field(
        default=development.ISSUER,
        min_length=1,
        description="The `iss` of the access tokens that count, compared whole.",
    )
    jwt_audience: str = Field(default="mfa-server", min_length=1, description="What their `aud` must be, or contain.")
    jwt_jwks_url: JwksUrl | None = Field(
        default=None, description="Where the identity provider publishes its keys: https, or http for loopback hosts."
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description="Instead of the URL: a secret of 32 bytes or more, for HS256 alone."
    )
    jwt_key_file: KeyFile | None = Field(
        default=None,
        description="Instead of the URL: a file with a JWK set or a PEM. "
        "Default: without any of the three, a key made up in the data folder.",
    )
    jwt_algorithms: Words = Field(
        default=("RS256", "ES256", "EdDSA"), description="The signature algorithms that count, comma-separated."
    )
    jwt_tenant_claim: str = Field(default="tenant_id", min_length=1, description="The claim that names the tenant.")
    jwt_require_at_jwt: bool = Field(default=False, description="Whether tokens must carry `typ: at+jwt` (RFC 9068).")
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp+starttls://user:password@host:port, or smtps:// or smtp://. "
        "Default: each mail is a file under outbox/ in the data folder.",
    )
    mail_from: str = Field(default="mfa-server@localhost", description="Who sends the mail.")
    rp_id: RpId = Field(default="localhost", description="The domain that security keys are bound to.")
    rp_name: Name = Field(default="MFA server", description="What the browser shows when a key is registered.")
    origins: Origins = Field(
        default=("http://localhost:8080",),
        description="Where your pages live, comma-separated: they may call the API and use keys. "
        "Default: http://localhost with the port of `serve`.",
    )
    public_url: PublicUrl = Field(
        default="http://localhost:8080",
        description="Where the server is reached, and the `iss` of its assertions. "
        "Default: http://localhost with the port of `serve`.",
    )
    issuer_name: Name = Field(default="MFA server", description="What the authenticator app shows.")
    step_up: Literal["off", "required"] = Field(
        default="off", description="Whether changing a method takes a proof of an enrolled one."
    )
    enrol_max_age: int = Field(
        default=900,
        ge=30,
        le=86400,
        description="How old, in seconds, a login (`auth_time`) may be for a first method, where step-up is required.",
    )
    assume_first_factor: bool = Field(
        default=False,
        description="Whether every login shows something one knows or is, so that assertions say `mfa`.",
    )
    user_verification: Literal["preferred", "required", "discouraged"] = Field(
        default="preferred", description="Whether a key asks for a PIN or a fingerprint."
    )
    totp_window: int = Field(default=1, ge=0, le=1, description="How many steps of 30 s a code may be early or late.")
    audit_retention_days: int = Field(
        default=400, ge=0, le=10_000, description="How many days an audit event is kept; 0 keeps all for ever."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest that is logged."
    )
    validate_responses: bool = Field(default=False, description="Whether each answer is held against the contract.")

    @property
    def takes_development_tokens(self) -> bool:
        """Whether the access tokens that count are those that `mfa-server token` makes."""
        made_up = self.data_dir / development.JWT_KEY
        return self.env == "development" and self.jwt_issuer == development.ISSUER and self.jwt_key_file == made_up

    @property
    def audit_retention(self) -> timedelta | None:
        """How long audit events are kept; None when for ever."""
        return timedelta(days=self.audit_retention_days) if self.audit_retention_days else None

    @field_validator("database_url", mode="before")
    @classmethod
    def _database_in_the_data_folder(cls, value: str, info: ValidationInfo) -> str:
        return value or f"sqlite:///{_decided(info, 'data_dir') / 'mfa.db'}"

    @field_validator(*NEEDED, mode="before")
    @classmethod
    def _given_or_made_up(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value != cls.model_fields[name].default or (name == "jwt_key_file" and _other_key_source(info)):
            return value
        if _decided(info, "env") == "production":
            raise ValueError(f"is missing. Production needs {NEEDED[name]}.")
        return MADE_UP[name](_decided(info, "data_dir")) if name in MADE_UP else value

    @field_validator(*MADE_UP)
    @classmethod
    def _nothing_made_up_in_production(cls, value: Any, info: ValidationInfo) -> Any:
        if _decided(info, "env") == "production" and development.made_up(value):
            raise ValueError(f"was made up for development. Production needs {NEEDED[str(info.field_name)]}.")
        return value

    @field_validator("jwt_secret", "jwt_key_file")
    @classmethod
    def _one_key_source(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and (other := _other_key_source(info)):
            raise ValueError(f"stands beside {other}. Keep one of the two.")
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _hs256_by_itself(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if _decided(info, "jwt_secret") is None:
            return value
        if value not in (("HS256",), cls.model_fields["jwt_algorithms"].default):
            raise ValueError("stands beside MFA_JWT_SECRET, which is for HS256 alone. Leave it out.")
        return ("HS256",)

    @field_validator("jwt_tenant_claim")
    @classmethod
    def _claim_of_its_own(cls, value: str) -> str:
        if value in REGISTERED_CLAIMS:
            raise ValueError("is a claim with another meaning. Write the one that names the tenant.")
        return value


def load() -> Settings:
    """The settings of the environment. Raises WrongSettings."""
    try:
        return Settings()
    except ValidationError as error:
        # Without the cause, which holds the values.
        raise WrongSettings(_line(each) for each in error.errors() if each["type"] != UNDECIDED) from None
    except OSError as error:
        raise WrongSettings([f"{PREFIX}DATA_DIR cannot be used: {error.strerror}."]) from error


def unknown(environment: Iterable[str]) -> list[str]:
    """A line for each name that looks like a setting and is none."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    lines = []
    for name in sorted(name for name in environment if name.upper().startswith(PREFIX)):
        if name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)
            lines.append(f"{name} is not a setting." + (f" Did you mean {close[0]}?" if close else ""))
    return lines


def table() -> list[tuple[str, str]]:
    """Each setting's name, and what it is for."""
    rows = []
    for name, field in Settings.model_fields.items():
        text, default = str(field.description), field.default
        if default is not None and "Default:" not in text:
            shown = ",".join(default) if isinstance(default, tuple) else str(default)
            text += f" Default: {shown.lower() if isinstance(default, bool) else shown}."
        rows.append((PREFIX + name.upper(), text))
    return rows


def _decided(info: ValidationInfo, name: str) -> Any:
    if name not in info.data:
        raise PydanticCustomError(UNDECIDED, "depends on another setting")
    return info.data[name]


def _other_key_source(info: ValidationInfo) -> str | None:
    others = (name for name in ("jwt_jwks_url", "jwt_secret") if name != info.field_name and info.data.get(name))
    return next((PREFIX + name.upper() for name in others), None)


def _line(error: ErrorDetails) -> str:
    """One sentence. What pydantic says of its own types names the alternatives, and repeats no value."""
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    else:
        text = TEXTS.get(error["type"], f"{error['msg']}.".replace("Input should", "must"))
    return f"{PREFIX}{str(error['loc'][0]).upper()} {text}"

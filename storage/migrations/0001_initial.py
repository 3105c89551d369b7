"""The first schema."""

from typing import Any

from peewee import SqliteDatabase

TABLES = """
CREATE TABLE mfa_user (
    id {uuid} NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    sub TEXT NOT NULL,
    handle {bytes} NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    locked_until {time},
    created_at {time} NOT NULL
){by_key};
CREATE TABLE totp_secret (
    user_id {uuid} NOT NULL PRIMARY KEY REFERENCES mfa_user (id) ON DELETE CASCADE,
    device_id {uuid} NOT NULL,
    sealed TEXT NOT NULL,
    last_step BIGINT NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    expires_at {time},
    confirmed_at {time},
    last_used_at {time}
){by_key};
CREATE INDEX totp_secret_expires_at ON totp_secret (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE email_factor (
    user_id {uuid} NOT NULL PRIMARY KEY REFERENCES mfa_user (id) ON DELETE CASCADE,
    device_id {uuid} NOT NULL,
    address TEXT NOT NULL,
    code_digest TEXT,
    created_at {time} NOT NULL,
    expires_at {time},
    confirmed_at {time},
    last_used_at {time}
){by_key};
CREATE INDEX email_factor_expires_at ON email_factor (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE backup_code_set (
    user_id {uuid} NOT NULL PRIMARY KEY REFERENCES mfa_user (id) ON DELETE CASCADE,
    salt {bytes} NOT NULL,
    generated_at {time} NOT NULL
){by_key};
CREATE TABLE backup_code (
    user_id {uuid} NOT NULL REFERENCES backup_code_set (user_id) ON DELETE CASCADE,
    digest {bytes} NOT NULL,
    used_at {time},
    PRIMARY KEY (user_id, digest)
){by_key};
CREATE TABLE webauthn_credential (
    user_id {uuid} NOT NULL REFERENCES mfa_user (id) ON DELETE CASCADE,
    device_id {uuid} NOT NULL,
    credential_id {bytes} NOT NULL UNIQUE,
    public_key {bytes} NOT NULL,
    sign_count BIGINT NOT NULL,
    aaguid {uuid} NOT NULL,
    name TEXT NOT NULL,
    transports TEXT NOT NULL,
    uv_initialized {bool} NOT NULL,
    backup_eligible {bool} NOT NULL,
    backed_up {bool} NOT NULL,
    created_at {time} NOT NULL,
    last_used_at {time},
    PRIMARY KEY (user_id, device_id)
){by_key};
CREATE TABLE webauthn_registration (
    user_id {uuid} NOT NULL REFERENCES mfa_user (id) ON DELETE CASCADE,
    challenge_id {uuid} NOT NULL,
    device_id {uuid} NOT NULL,
    challenge {bytes} NOT NULL,
    user_verification TEXT NOT NULL,
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    PRIMARY KEY (user_id, challenge_id)
){by_key};
CREATE INDEX webauthn_registration_expires_at ON webauthn_registration (expires_at);
CREATE TABLE challenge (
    user_id {uuid} NOT NULL REFERENCES mfa_user (id) ON DELETE CASCADE,
    challenge_id {uuid} NOT NULL,
    purpose TEXT NOT NULL,
    session TEXT NOT NULL,
    method TEXT NOT NULL,
    webauthn_challenge {bytes},
    user_verification TEXT NOT NULL,
    code_digest TEXT,
    created_at {time} NOT NULL,
    expires_at {time} NOT NULL,
    PRIMARY KEY (user_id, challenge_id)
){by_key};
CREATE INDEX challenge_expires_at ON challenge (expires_at);
CREATE TABLE mail_quota (
    key {uuid} NOT NULL PRIMARY KEY,
    sent_at TEXT NOT NULL,
    last_sent_at {time} NOT NULL
){by_key};
CREATE INDEX mail_quota_last_sent_at ON mail_quota (last_sent_at);
CREATE TABLE outbox_mail (
    id {uuid} NOT NULL PRIMARY KEY,
    user_id {uuid} NOT NULL,
    template TEXT NOT NULL,
    sealed TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    next_attempt_at {time} NOT NULL,
    expires_at {time} NOT NULL
){by_key};
CREATE INDEX outbox_mail_expires_at ON outbox_mail (expires_at);
CREATE TABLE audit_event (
    user_id {uuid} NOT NULL,
    at {time} NOT NULL,
    id {uuid} NOT NULL,
    type TEXT NOT NULL,
    reason TEXT,
    device_id {uuid},
    operation TEXT NOT NULL,
    request_id TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (user_id, at, id)
){by_key};
"""

# SQLite guesses numbers in columns whose type it does not know, so text is called text there. A table without row ids
# is one tree, in the order of its primary key, which begins with the user.
SQLITE = {"uuid": "TEXT", "bytes": "BLOB", "time": "TEXT", "bool": "INTEGER", "by_key": " WITHOUT ROWID"}
POSTGRESQL = {"uuid": "UUID", "bytes": "BYTEA", "time": "TIMESTAMPTZ", "bool": "BOOLEAN", "by_key": ""}


def up(migrator: Any, db: Any) -> None:
    types = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for statement in TABLES.format(**types).split(";\n"):
        if statement.strip():
            db.execute_sql(statement)

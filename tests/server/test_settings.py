"""What the settings take, what they refuse, and that they never repeat a secret."""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from server import development, settings
from server.settings import Settings, WrongSettings

MARKER = "hush-marker-hush"
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()

Environment = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """An environment without settings, in an empty folder; called, it sets some."""
    for name in os.environ:
        if name.upper().startswith("MFA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def add(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"MFA_{name}", value)

    return add


@pytest.fixture
def production(environment: Environment, tmp_path: Path) -> dict[str, str]:
    """All that production needs."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "signing.pem").write_bytes(pem)
    values = {
        "ENV": "production",
        "SECRET_KEYS": f"2026:{KEY}",
        "SIGNING_KEY_FILE": str(tmp_path / "signing.pem"),
        "JWT_ISSUER": "https://idp.example.com",
        "JWT_JWKS_URL": "https://idp.example.com/jwks.json",
        "SMTP_URL": f"smtps://mfa:{MARKER}@mail.example.com",
        "MAIL_FROM": "mfa@example.com",
        "RP_ID": "example.com",
        "ORIGINS": "https://example.com,https://app.example.com:8443",
        "PUBLIC_URL": "https://mfa.example.com",
    }
    environment(**values)
    return values


def refusal() -> list[str]:
    with pytest.raises(WrongSettings) as refused:
        settings.load()
    return refused.value.lines


def test_without_settings_the_server_is_for_development() -> None:
    loaded = settings.load()
    assert loaded.env == "development"
    assert loaded.database_url == "sqlite:///mfa-data/mfa.db"
    assert loaded.jwt_key_file == Path("mfa-data/jwt-key.pem")
    assert loaded.signing_key_file == Path("mfa-data/signing-key.pem")
    assert [len(key) for key in loaded.secret_keys.values()] == [32]
    assert loaded.takes_development_tokens
    assert settings.load().secret_keys == loaded.secret_keys


def test_the_data_folder_and_all_keys_are_for_their_owner_alone() -> None:
    settings.load()
    folder = Path("mfa-data")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["jwt-key.pem", "secret-keys", "signing-key.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_many_that_make_up_a_key_at_once_end_with_the_same_one(tmp_path: Path) -> None:
    for turn in range(20):
        folder, start = tmp_path / str(turn), threading.Barrier(8)
        seen: set[str] = set()

        def make(folder: Path = folder, start: threading.Barrier = start, seen: set[str] = seen) -> None:
            start.wait()
            seen.add(development.secret_keys(folder))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 1
        assert [path.name for path in folder.iterdir()] == ["secret-keys"]


def test_every_setting_is_described_once() -> None:
    names = [name for name, _ in settings.table()]
    assert names == [f"MFA_{name.upper()}" for name in Settings.model_fields]
    assert all(field.description for field in Settings.model_fields.values())


def test_the_newest_sealing_key_stands_first(environment: Environment) -> None:
    environment(SECRET_KEYS=f"b:{KEY}, a:{OTHER_KEY}")
    assert list(settings.load().secret_keys.items()) == [("b", bytes(range(32))), ("a", bytes(32))]


def test_an_empty_setting_is_one_that_is_not_given(environment: Environment) -> None:
    environment(ENV="", ORIGINS="", JWT_SECRET="")
    assert settings.load() == Settings()
    assert settings.load().jwt_secret is None


def test_a_secret_brings_hs256_by_itself(environment: Environment) -> None:
    environment(JWT_SECRET=MARKER * 3)
    loaded = settings.load()
    assert loaded.jwt_algorithms == ("HS256",)
    assert loaded.jwt_key_file is None
    assert not loaded.takes_development_tokens


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"ENV": "prod"}, "MFA_ENV must be 'development' or 'production'."),
        ({"STEP_UP": "on"}, "MFA_STEP_UP must be 'off' or 'required'."),
        ({"USER_VERIFICATION": "x"}, "MFA_USER_VERIFICATION must be 'preferred', 'required' or 'discouraged'."),
        ({"LOG_LEVEL": "loud"}, "MFA_LOG_LEVEL must be 'debug', 'info', 'warning' or 'error'."),
        ({"TOTP_WINDOW": "2"}, "MFA_TOTP_WINDOW must be less than or equal to 1."),
        ({"TOTP_WINDOW": "-1"}, "MFA_TOTP_WINDOW must be greater than or equal to 0."),
        ({"TOTP_WINDOW": MARKER}, "MFA_TOTP_WINDOW must be a whole number."),
        ({"VALIDATE_RESPONSES": MARKER}, "MFA_VALIDATE_RESPONSES must be true or false."),
        ({"DATABASE_URL": f"mysql://mfa:{MARKER}@db/mfa"}, "MFA_DATABASE_URL has the form sqlite:///"),
        ({"DATABASE_URL": f"postgresql://mfa:{MARKER}@[db/mfa"}, "MFA_DATABASE_URL has the form sqlite:///"),
        ({"SECRET_KEYS": MARKER}, "MFA_SECRET_KEYS entry 1 is not id:base64"),
        ({"SECRET_KEYS": f"a:{KEY},b:{MARKER}"}, "MFA_SECRET_KEYS entry 2 is not id:base64"),
        ({"SECRET_KEYS": f"a:{KEY[:-4]}"}, "MFA_SECRET_KEYS entry 1 is not id:base64"),
        ({"SECRET_KEYS": f"a b:{KEY}"}, "MFA_SECRET_KEYS entry 1 is not id:base64"),
        ({"SECRET_KEYS": f"{'a' * 33}:{KEY}"}, "MFA_SECRET_KEYS entry 1 is not id:base64"),
        ({"SECRET_KEYS": f"a:{KEY},a:{OTHER_KEY}"}, "MFA_SECRET_KEYS entry 2 has the id of an earlier one."),
        ({"SIGNING_KEY_FILE": "none.pem"}, "MFA_SIGNING_KEY_FILE names a file that cannot be read: No such file"),
        ({"SIGNING_KEY_FILE": "/dev/null"}, "MFA_SIGNING_KEY_FILE names a file without an unencrypted P-256"),
        ({"JWT_KEY_FILE": "none.pem"}, "MFA_JWT_KEY_FILE names a file that cannot be read: No such file"),
        ({"JWT_JWKS_URL": "http://idp.example.com/jwks"}, "MFA_JWT_JWKS_URL is not an https URL"),
        ({"JWT_JWKS_URL": f"https://mfa:{MARKER}@idp.example.com/"}, "MFA_JWT_JWKS_URL is not an https URL"),
        ({"JWT_JWKS_URL": "https://idp.example.com:x/"}, "MFA_JWT_JWKS_URL is not an https URL"),
        ({"JWT_JWKS_URL": "https://a.test/", "JWT_SECRET": MARKER}, "MFA_JWT_SECRET stands beside MFA_JWT_JWKS_URL."),
        ({"JWT_SECRET": MARKER, "JWT_KEY_FILE": "/dev/null"}, "MFA_JWT_KEY_FILE stands beside MFA_JWT_SECRET."),
        ({"JWT_SECRET": MARKER, "JWT_ALGORITHMS": "HS256,ES256"}, "MFA_JWT_ALGORITHMS stands beside MFA_JWT_SECRET"),
        ({"JWT_TENANT_CLAIM": "sub"}, "MFA_JWT_TENANT_CLAIM is a claim with another meaning."),
        ({"RP_ID": "Example.com"}, "MFA_RP_ID is not a domain in lower case"),
        ({"RP_ID": "192.0.2.1"}, "MFA_RP_ID is not a domain in lower case"),
        ({"RP_ID": "https://example.com"}, "MFA_RP_ID is not a domain in lower case"),
        ({"RP_NAME": "a\nb"}, "MFA_RP_NAME has 1 to 64 printable characters"),
        ({"ISSUER_NAME": "x" * 65}, "MFA_ISSUER_NAME has 1 to 64 printable characters"),
        ({"PUBLIC_URL": "https://mfa.example.com/"}, "MFA_PUBLIC_URL is not an https or http URL"),
        ({"PUBLIC_URL": f"ftp://{MARKER}"}, "MFA_PUBLIC_URL is not an https or http URL"),
    ],
)
def test_a_wrong_setting_gets_one_line_which_repeats_nothing(
    environment: Environment, values: dict[str, str], line: str
) -> None:
    environment(**values)
    lines = refusal()
    assert len(lines) == 1
    assert lines[0].startswith(line)
    assert lines[0].isprintable()
    assert MARKER not in lines[0]


@pytest.mark.parametrize(
    ("origins", "fault"),
    [
        ("http://localhost:3000,http://example.com", "entry 2 is plain http"),
        ("http://127.0.0.1:3000", "entry 1 is plain http"),
        ("https://example.org", "entry 1 is outside of MFA_RP_ID"),
        ("https://badexample.com", "entry 1 is outside of MFA_RP_ID"),
        ("https://example.com.evil.test", "entry 1 is outside of MFA_RP_ID"),
        ("https://example.com/", "entry 1 is not an origin"),
        ("https://example.com/app", "entry 1 is not an origin"),
        ("https://example.com:443", "entry 1 is not an origin"),
        ("https://Example.com", "entry 1 is not an origin"),
        ("https://user@example.com", "entry 1 is not an origin"),
        ("https://*.example.com", "entry 1 is not an origin"),
        ("https://exämple.com", "entry 1 is not an origin"),
        ("null", "entry 1 is not an origin"),
        ("https://example.com,", "entry 2 is not an origin"),
    ],
)
def test_sec_05_an_origin_that_no_browser_would_send_or_key_would_serve_is_refused(
    environment: Environment, origins: str, fault: str
) -> None:
    environment(RP_ID="localhost" if "localhost" in origins else "example.com", ORIGINS=origins)
    lines = refusal()
    assert len(lines) == 1
    assert lines[0].startswith(f"MFA_ORIGINS {fault}")


def test_sec_05_the_default_origin_does_not_serve_another_rp_id(environment: Environment) -> None:
    environment(RP_ID="example.com")
    assert [line.split(". ")[0] for line in refusal()] == ["MFA_ORIGINS entry 1 is outside of MFA_RP_ID"]


def test_all_wrong_settings_are_told_at_once(environment: Environment) -> None:
    environment(STEP_UP="x", LOG_LEVEL="x", SECRET_KEYS="x", RP_ID="X")
    assert [line.split()[0] for line in refusal()] == ["MFA_SECRET_KEYS", "MFA_RP_ID", "MFA_STEP_UP", "MFA_LOG_LEVEL"]


def test_a_data_folder_that_cannot_be_made_is_told(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment(DATA_DIR=str(tmp_path / "file" / "data"))
    assert refusal() == ["MFA_DATA_DIR cannot be used: Not a directory."]


def test_production_with_keys_of_its_own_starts_and_makes_up_nothing(production: dict[str, str]) -> None:
    loaded = settings.load()
    assert loaded.origins == ("https://example.com", "https://app.example.com:8443")
    assert loaded.jwt_key_file is None
    assert not loaded.takes_development_tokens
    assert not loaded.data_dir.exists()


def test_sec_02_production_refuses_to_make_anything_up(environment: Environment, tmp_path: Path) -> None:
    environment(ENV="production")
    assert [line.split(". ")[0] for line in refusal()] == [
        "MFA_SECRET_KEYS is missing",
        "MFA_SIGNING_KEY_FILE is missing",
        "MFA_JWT_ISSUER is missing",
        "MFA_JWT_KEY_FILE is missing",
        "MFA_SMTP_URL is missing",
        "MFA_MAIL_FROM is missing",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["SECRET_KEYS", "SIGNING_KEY_FILE", "SMTP_URL", "MAIL_FROM", "JWT_ISSUER"])
def test_sec_02_production_refuses_each_setting_that_is_empty(
    production: dict[str, str], environment: Environment, setting: str
) -> None:
    environment(**{setting: ""})
    assert [line.split(". ")[0] for line in refusal()] == [f"MFA_{setting} is missing"]


def test_sec_02_production_refuses_keys_that_were_made_up_even_as_copies(
    production: dict[str, str], environment: Environment, tmp_path: Path
) -> None:
    folder = tmp_path / "earlier"
    for name, make in (("signing.pem", development.signing_key_file), ("jwt.pem", development.jwt_key_file)):
        (tmp_path / name).write_bytes(make(folder).read_bytes())
    environment(
        SECRET_KEYS=development.secret_keys(folder),
        SIGNING_KEY_FILE=str(tmp_path / "signing.pem"),
        JWT_JWKS_URL="",
        JWT_KEY_FILE=str(tmp_path / "jwt.pem"),
    )
    assert [line.split(". ")[0] for line in refusal()] == [
        "MFA_SECRET_KEYS was made up for development",
        "MFA_SIGNING_KEY_FILE was made up for development",
        "MFA_JWT_KEY_FILE was made up for development",
    ]


def test_nothing_that_shows_settings_shows_a_secret(production: dict[str, str], environment: Environment) -> None:
    environment(JWT_JWKS_URL="", JWT_SECRET=MARKER * 3)
    shown = f"{settings.load()!r} {settings.load()}"
    assert MARKER not in shown
    assert str(bytes(range(32))) not in shown
    environment(SECRET_KEYS=MARKER, SMTP_URL="", JWT_ALGORITHMS=MARKER)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert MARKER not in str(refused.value)


def test_a_name_that_is_no_setting_is_told_with_the_one_that_was_meant() -> None:
    names = ["PATH", "MFA_ENV", "mfa_data_dir", "MFA_JWKS_URL", "MFA_ORIGIN", "MFA_XYZ"]
    assert settings.unknown(names) == [
        "MFA_JWKS_URL is not a setting. Did you mean MFA_JWT_JWKS_URL?",
        "MFA_ORIGIN is not a setting. Did you mean MFA_ORIGINS?",
        "MFA_XYZ is not a setting.",
    ]

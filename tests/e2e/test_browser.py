"""What a browser makes of the server: a page of the app's own on another origin, and Swagger UI."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import Transport, VirtualAuthenticatorOptions
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from tests.running import RunningServer, free_port

SECONDS = 20
PAGES = Path(__file__).parent / "pages"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Requests are no news."""


@contextmanager
def pages() -> Iterator[str]:
    """The app's pages, at an origin of their own."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), partial(Quiet, directory=PAGES)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def with_security_key(browser: Chrome) -> None:
    options = VirtualAuthenticatorOptions(
        transport=Transport.USB, has_user_verification=True, is_user_verified=True, has_resident_key=True
    )
    browser.add_virtual_authenticator(options)


def press(browser: Chrome, button: str) -> dict[str, Any]:
    """Press a button of the page and read what comes of it."""
    browser.find_element(By.ID, button).click()
    said = WebDriverWait(browser, SECONDS).until(visibility_of_element_located((By.ID, f"{button}-said")))
    result: dict[str, Any] = browser.execute_script("return JSON.parse(arguments[0].textContent)", said)
    return result


def test_a_page_on_another_origin_registers_a_key_and_verifies_with_it(tmp_path: Path, browser: Chrome) -> None:
    with pages() as origin, RunningServer(tmp_path, origins=origin) as server:
        with_security_key(browser)
        browser.get(f"{origin}/#{server.origin}|{server.token('alice')}")
        registered = press(browser, "register")
        verified = press(browser, "verify")
        browser.save_screenshot(str(tmp_path / "page.png"))
        assert registered["name"] == "Security key"
        assert len(registered["backup_codes"]) == 10
        assert verified["acr"] == "phr"
        keys = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json")
        key = keys.get_signing_key_from_jwt(verified["assertion"])
        claims = jwt.decode(verified["assertion"], key, ["ES256"], audience="mfa-server", issuer=server.origin)
        assert (claims["sub"], claims["amr"]) == ("alice", ["hwk", "user"])


def test_a_page_on_an_origin_that_is_not_listed_may_not_call(tmp_path: Path, browser: Chrome) -> None:
    with pages() as origin, RunningServer(tmp_path) as server:
        browser.get(f"{origin}/#{server.origin}|{server.token('alice')}")
        assert press(browser, "register") == {"error": "TypeError"}


def test_swagger_ui_takes_a_token_and_tries_an_operation_out(tmp_path: Path, browser: Chrome) -> None:
    with RunningServer(tmp_path) as server:
        wait = WebDriverWait(browser, SECONDS)

        def click(selector: str) -> None:
            wait.until(element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

        browser.get(f"{server.origin}/docs")
        click(".auth-wrapper .authorize")
        field = wait.until(visibility_of_element_located((By.CSS_SELECTOR, ".modal-ux input")))
        field.send_keys(server.token("alice"))
        click(".modal-ux .auth-btn-wrapper .authorize")
        click(".modal-ux .btn-done")
        operation = ".opblock-get[id*='list_all']"
        click(f"{operation} .opblock-summary-control")
        click(f"{operation} .try-out__btn")
        click(f"{operation} .execute")
        answered = visibility_of_element_located((By.CSS_SELECTOR, f"{operation} .live-responses-table .response"))
        answer = wait.until(answered)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", answer)
        browser.save_screenshot(str(tmp_path / "swagger.png"))
        assert answer.text.startswith("200")
        assert '"mfa_enabled": false' in answer.text

"""Signatures that any Standard Webhooks library verifies, and posts that cannot hang or wander."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from halfsigma import UsageError, __version__
from registry import webhook
from registry.webhook import Answer, check_url, new_secret, post, read_secret, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the specification's example
AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


class Receiver(ThreadingHTTPServer):
    """A real server that keeps what it was sent and answers as told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.trickle_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, dict(self.headers.items()), body))
        if self.server.trickle_s:
            self.trickle()
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def trickle(self) -> None:
        """A byte of a header now and then: each read in time, the answer never complete."""
        deadline = time.monotonic() + self.server.trickle_s
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
            while time.monotonic() < deadline:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass  # the other side had enough

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(url: str, **given: Any) -> Answer:
    values: dict[str, Any] = {
        "secret": SECRET,
        "message_id": "msg_1",
        "body": b"{}",
        "now": AT,
        "timeout_s": 5.0,
    }
    return post(url, **{**values, **given})


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """The specification's verification, written from its text alone."""
    key = base64.b64decode(secret[len("whsec_") :])
    lower = {name.lower(): value for name, value in headers.items()}
    content = lower["webhook-id"].encode() + b"." + lower["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    versions = [part.split(",", 1) for part in lower["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(signature, expected) for version, signature in versions)


def test_the_published_example_has_the_published_signature() -> None:
    """Secret, message and signature as the reference libraries' documentation and tests print them."""
    signature = sign(
        SECRET,
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_post_is_signed_over_exactly_what_is_sent(receiver: Receiver) -> None:
    body = json.dumps({"type": "drift", "line": "Linie Ä"}, ensure_ascii=False).encode()
    assert send(receiver.url, body=body) == Answer("delivered", "HTTP 204 No Content")
    ((path, headers, received),) = receiver.received
    assert (path, received) == ("/hook", body)
    assert verified(SECRET, headers, received)
    assert not verified(SECRET, headers, received + b" ")
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["webhook-timestamp"] == str(int(AT.timestamp()))
    assert lower["content-type"] == "application/json"
    assert lower["user-agent"] == f"halfsigma/{__version__}"


def test_while_secrets_are_rotated_both_verify(receiver: Receiver) -> None:
    old, new = new_secret(), new_secret()
    send(receiver.url, secret=f"{new} {old}")
    ((_, headers, body),) = receiver.received
    assert verified(old, headers, body) and verified(new, headers, body)
    assert not verified(new_secret(), headers, body)


def test_a_new_secret_is_of_the_specifications_form() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_") and secret != new_secret()
    assert 24 <= len(base64.b64decode(secret[6:])) <= 64
    assert read_secret(secret) == read_secret(secret[6:])  # the prefix may be missing, and the padding too
    assert read_secret(secret) == read_secret(secret.rstrip("="))


@pytest.mark.parametrize("secret", ["", " ", "whsec_", "whsec_geheim!", "whsec_c2hvcnQ=", "hunter2", f"{SECRET} x"])
def test_what_is_no_secret_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_secret(secret)
    assert "whsec_" in caught.value.hint
    for part in secret.removeprefix("whsec_").split():
        assert part not in caught.value.message.split()


@pytest.mark.parametrize(
    "url", ["", "mes.plant/hook", "ftp://mes.plant/hook", "http://", "file:///etc/passwd", "http://[::1/hook"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not http:// or https://"):
        check_url(url)


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 302, {"Location": f"{receiver.url}/elsewhere"}
    answer = send(receiver.url)
    assert answer.kind == "refused" and "redirects are not followed" in answer.detail
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "delivered"),
        (202, "delivered"),
        (299, "delivered"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (410, "gone"),
        (429, "refused"),
        (500, "refused"),
        (503, "refused"),
    ],
)
def test_only_a_2xx_is_a_delivery_and_only_410_is_for_ever(receiver: Receiver, status: int, kind: str) -> None:
    receiver.status = status
    answer = send(receiver.url)
    assert answer.kind == kind and f"HTTP {status}" in answer.detail


@pytest.mark.parametrize("value", ["17", "in 400 days", "soon", "-1"])
def test_retry_after_is_seconds_or_a_date_or_nothing(receiver: Receiver, value: str) -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(days=400)) if value == "in 400 days" else value
    receiver.status, receiver.headers = 503, {"Retry-After": header}
    seconds = send(receiver.url).retry_after_s
    if value == "17":
        assert seconds == 17.0
    elif value in ("soon", "-1"):
        assert seconds is None
    else:
        assert seconds == pytest.approx(400 * 86_400, abs=120)


def test_a_receiver_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        answer = send(f"http://127.0.0.1:{probe.getsockname()[1]}/hook")
    assert answer.kind == "unreachable" and "ConnectError" in answer.detail


def test_a_receiver_that_trickles_is_cut_off_in_time(receiver: Receiver) -> None:
    receiver.trickle_s = 5.0
    started = time.monotonic()
    answer = send(receiver.url, timeout_s=0.4)
    assert time.monotonic() - started < 3.0
    assert answer == Answer("unreachable", "no answer within 0.4 s")


def test_what_speaks_no_http_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_nonsense() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer_nonsense)
        thread.start()
        answer = send(f"http://127.0.0.1:{server.getsockname()[1]}/hook")
        thread.join()
    assert answer.kind == "unreachable"


def test_a_post_works_inside_a_running_event_loop(receiver: Receiver) -> None:
    import asyncio

    async def flow() -> Answer:
        return send(receiver.url)

    assert asyncio.run(flow()).kind == "delivered"


def test_a_retry_after_in_digits_that_are_none_says_nothing() -> None:
    assert webhook._retry_after_s("²") is None

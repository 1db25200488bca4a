"""One message, signed as Standard Webhooks asks and posted once.

Headers: ``webhook-id`` (the same on every attempt, for the receiver to recognise repetitions),
``webhook-timestamp`` (seconds, of this attempt) and ``webhook-signature`` (``v1,<base64 of HMAC-SHA256 over
id.timestamp.body>``, one for each secret while secrets are being rotated). Why this is written here and not
taken from the package ``standardwebhooks``: docs/decisions/webhook-signing.md.

Specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import httpx

from halfsigma import UsageError, __version__

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32  # the specification asks for 24 to 64
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
GONE = 410  # the receiver's way to say: never again
CONNECT_TIMEOUT_S = 5.0
MAX_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt; ``refused`` and ``gone`` are answers, ``unreachable`` is none."""

    kind: Literal["delivered", "refused", "gone", "unreachable"]
    detail: str
    retry_after_s: float | None = None


def new_secret() -> str:
    """A fresh signing secret, ``whsec_`` and base64, as every Standard Webhooks library reads it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(secret: str, *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The ``webhook-signature`` header; several secrets, parted by spaces, give as many signatures.

    >>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    >>> sign(secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s=1614265330,
    ...      body=b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in read_secret(secret)
    )


def read_secret(secret: str) -> list[bytes]:
    """The keys of one or several secrets; UsageError, never repeating the secret, for any other form."""
    hint = "make one with registry.webhook.new_secret(): whsec_ and 24 to 64 bytes in base64"
    keys = []
    for part in secret.split():
        text = part.removeprefix(SECRET_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # some write it unpadded
        except (binascii.Error, ValueError) as error:
            raise UsageError("the webhook secret is not base64", hint=hint) from error
        if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
            raise UsageError(f"the webhook secret has {len(key)} bytes, expected 24 to 64", hint=hint)
        keys.append(key)
    if not keys:
        raise UsageError("the webhook secret is empty", hint=hint)
    return keys


def check_url(url: str) -> None:
    """UsageError unless it is an http or https address; plain HTTP is welcome inside a plant."""
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as an IPv6 address without its closing bracket
        is_web = False
    if not is_web:
        raise UsageError(
            "the webhook's address is not http:// or https:// with a host", hint="e.g. http://mes.plant/hook"
        )


def post(
    url: str,
    *,
    secret: str,
    message_id: str,
    body: bytes,
    now: datetime,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Post once; the answer's body is not read and no redirect is followed.

    ``timeout_s`` limits the whole attempt, not each step of it: a receiver that trickles cannot hold us. To
    be cut off like that the request runs in an event loop of its own, in a thread of its own, so that
    callers may be flows of either kind.
    """
    timestamp_s = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": f"halfsigma/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": sign(secret, message_id=message_id, timestamp_s=timestamp_s, body=body),
    }
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, _post(url, headers, body, timeout_s, tls)).result()


async def _post(url: str, headers: dict[str, str], body: bytes, timeout_s: float, tls: ssl.SSLContext | None) -> Answer:
    limits = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=limits, follow_redirects=False, verify=tls or True) as client,
            client.stream("POST", url, headers=headers, content=body) as response,
        ):
            return _read(response)
    except TimeoutError:
        return Answer("unreachable", f"no answer within {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Answer("unreachable", f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS])


def _read(response: httpx.Response) -> Answer:
    status = f"HTTP {response.status_code} {response.reason_phrase}".strip()[:MAX_ERROR_CHARS]
    if response.is_success:
        return Answer("delivered", status)
    if response.status_code == GONE:
        return Answer("gone", f"{status}: the receiver wants no more")
    if response.is_redirect:
        return Answer("refused", f"{status}: redirects are not followed, give the final address")
    return Answer("refused", status, retry_after_s=_retry_after_s(response.headers.get("retry-after")))


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number of them or a date; None when it says nothing."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())

"""The webhook: one JSON message about a night to a URL, signed, retried, and never waited for long.

Nothing here ends a night: whatever goes wrong is a line for a person.
"""

import hashlib
import hmac
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Final

from vqad.inspection.job import InspectJob
from vqad.inspection.monitoring import shown_url
from vqad.inspection.summary import InspectSummary, Say

SECRET: Final = "VQAD_NOTIFY_SECRET"  # noqa: S105 (the name of a variable)
SIGNATURE: Final = "X-Vqad-Signature"
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 1.0
TIMEOUT_S: Final = 10.0  # of a connection, and of each read
DEADLINE_S: Final = 45.0  # of all attempts together: a server may send its answer byte by byte
# The server may be able to take the message later. Any other answer would come again.
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def message(
    job: InspectJob, summary: InspectSummary | None, *, code: int, error: str = ""
) -> dict[str, Any]:
    """The message about a run; ``code`` is the exit code of its command."""
    counts = {}
    if summary:
        counts = {"run": summary.run, "listed": summary.listed, "skipped": summary.skipped}
        counts |= {"images": summary.images, "seconds": summary.seconds}
        counts |= {name: summary.count(name) for name in ("normal", "defect", "reject")}
    return {
        "event": "vqad inspect",
        "archive": job.archive,
        "output": job.output,
        "sent_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exit_code": code,
        "error": error,
        "summary": counts,
        "warnings": [each.record() for each in summary.warnings] if summary else [],
    }


def send(url: str, content: dict[str, Any], say: Say) -> bool:
    """Send a message; True if the server took it. Says why it did not, and raises nothing."""
    outcome: list[str] = []
    # A daemon, so that a server that never ends its answer does not keep the program.
    sender = threading.Thread(target=lambda: outcome.append(_attempts(url, content)), daemon=True)
    sender.start()
    sender.join(DEADLINE_S)
    problem = outcome[0] if outcome else f"no answer within {DEADLINE_S:g} s"
    if problem:
        say(f"warning: {shown_url(url)} was not notified: {problem}")
    return not problem


def _attempts(url: str, content: dict[str, Any]) -> str:
    """Try until the server takes the message; returns the reason why it did not, or ""."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311
        problem, is_transient = _attempt(url, json.dumps(content).encode())
        if not is_transient:
            break
    return problem


def _attempt(url: str, body: bytes) -> tuple[str, bool]:
    """The reason why the message was not taken, or "", and whether that may pass."""
    request = urllib.request.Request(url, data=body, headers=_headers(body))  # noqa: S310
    try:
        with _opener().open(request, timeout=TIMEOUT_S):
            return "", False
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered with status {error.code}", error.code in _TRANSIENT
    except (OSError, HTTPException, ValueError) as error:
        # Not its text, which may contain the URL.
        cause = getattr(error, "reason", error)
        return f"no connection ({type(cause).__name__})", True


def _headers(body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "vqad"}
    if secret := os.environ.get(SECRET):
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers[SIGNATURE] = f"sha256={digest}"
    return headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the message to a place that nobody has named."""

    def redirect_request(self, *_: Any) -> None:
        """Let the answer with the redirect be an error."""
        return


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: urllib's own would open files as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _NoRedirect(),
    ):
        opener.add_handler(handler)
    return opener

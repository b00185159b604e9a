"""`llm-gateway health`: whether the gateway on this machine is ready, for the health check of a container."""

import http.client
import ssl
import sys
from http import HTTPStatus
from urllib.parse import urlsplit

_SECONDS = 4.0


def show_health(url: str) -> int:
    """Ask for readiness; return the exit code, and say in one line why it is 1.

    No proxy is asked, and no certificate is checked: it is made for the name of the site, and this asks by address.
    """
    asked = urlsplit(url)
    host, port = asked.hostname or "", asked.port or 0
    try:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        if asked.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=_unchecked())
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"llm-gateway: nothing answers at {url}: {error}", file=sys.stderr)
        return 1
    if status != HTTPStatus.OK:
        print(f"llm-gateway: the gateway at {url} is not ready ({status})", file=sys.stderr)
        return 1
    print(f"the gateway at {url} is ready")
    return 0


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context

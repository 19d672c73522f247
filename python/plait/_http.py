"""`plait.aio.http_get`."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from . import _core
from ._tls import TLS, settings_for_url

if TYPE_CHECKING:
    import ssl as _ssl

__all__ = ["http_get"]


def http_get(
    url: str,
    timeout: float | None = 30.0,
    *,
    headers: Mapping[str, str] | None = None,
    max_size: int | None = 100 * 2**20,
    follow_redirects: bool = False,
    ssl: _ssl.SSLContext | TLS | bool = True,
) -> Coroutine[Any, Any, _core.Response]:
    """Fetch a page over HTTP/1.1; connections to a host are kept and used again.

    A status such as 404 is not an error. The standard library's `urllib.request` blocks.

    Args:
        url: ``http://host[:port]/path`` or ``https://…``.
        timeout: seconds for the whole request; None: no limit.
        headers: names and values to be sent. Unless there is an ``Accept-Encoding`` among them,
            bodies in gzip, deflate or br (Brotli) are asked for, and decoded.
        max_size: bytes that the body may have, decoded; None: any number.
        follow_redirects: go where the server says, at most 10 times; ``url`` of the response
            tells where it ended.
        ssl: for https: True trusts whom the system trusts; an `ssl.SSLContext`, or `TLS`.

    Returns:
        An awaitable of a response with ``status`` (int), ``body`` (bytes), ``headers`` (dict
        of lower-case names; repeated ones are joined by a comma; what is not UTF-8 is read as
        Latin-1) and ``url`` (str).

    Raises:
        ValueError: ``url`` is not such a URL, or another argument is not as above.
        ConnectionError: the server cannot be reached, breaks off, or doesn't speak HTTP; or the
            body can't be decoded.
        socket.gaierror: there is no such host.
        ssl.SSLCertVerificationError: the server is not who it should be.
        asyncio.LimitOverrunError: the body is larger than ``max_size``, or status and headers
            larger than 128 KB.
        TimeoutError: it took too long.

    >>> from plait import aio
    >>> aio.http_get("ftp://127.0.0.1/")
    Traceback (most recent call last):
    ValueError: cannot fetch "ftp://127.0.0.1/": it must begin with http:// or https://
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, or None, got {timeout}")
    if max_size is not None and max_size < 0:
        raise ValueError(f"max_size must be at least 0 bytes, or None, got {max_size}")
    settings = settings_for_url(ssl, url, follow_redirects)
    given = list((headers or {}).items())
    return _core.http_get(url, given, timeout, max_size, follow_redirects, settings)

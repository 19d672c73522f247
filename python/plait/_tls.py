"""TLS settings for streams and `http_get`: plait's own, or what an SSLContext tells."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from . import _core

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS", "settings_for_url", "settings_of"]

_NOTHING, _CHAIN, _NAME = 0, 1, 2
_TLS12, _TLS13 = 1, 2
_CLIENTS = ("none", "optional", "required")


class TLS:
    """Settings for TLS connections, to be made once and used for many: ``ssl=TLS(…)``.

    An `ssl.SSLContext` may be given instead, but it doesn't tell which certificate it shows:
    so a server, or a client with a certificate, needs this.

    Args:
        cafile: a file of certificates to trust, in PEM; None: those that the system trusts.
        certfile: the own certificate, followed by those between it and its authority, in PEM.
        keyfile: its private key, in PEM; None: it is in ``certfile`` too.
        verify: False accepts any server, whoever it is: for tests.
        check_hostname: False accepts a good certificate that was made for another host.
        alpn: names of protocols to agree on, those liked best first, such as ``["h2"]``;
            ``get_extra_info("ssl_object").selected_alpn_protocol()`` tells the outcome.
        client_certs: what a server does about those who connect: ``"none"`` (nothing),
            ``"optional"`` (a certificate that they show must be good) or ``"required"``. Good
            are those of ``cafile``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file holds nothing that can be used.

    >>> from plait import aio
    >>> aio.TLS(verify=False)
    TLS(verify=False)
    """

    __slots__ = ("_shown", "settings")

    def __init__(
        self,
        cafile: str | os.PathLike[str] | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        *,
        verify: bool = True,
        check_hostname: bool = True,
        alpn: Sequence[str] = (),
        client_certs: Literal["none", "optional", "required"] = "none",
    ) -> None:
        if client_certs not in _CLIENTS:
            raise ValueError(f"client_certs must be one of {_CLIENTS}, got {client_certs!r}")
        if client_certs != "none" and (cafile is None or certfile is None):
            raise ValueError(
                f"client_certs={client_certs!r} is a server's: it needs a certfile to show and "
                "a cafile that tells whose certificates are good"
            )
        if isinstance(alpn, str):
            raise TypeError(f"alpn must be a sequence of names, got {alpn!r}")
        protocols = [name.encode("ascii") for name in alpn]
        for name in protocols:
            if not 0 < len(name) < 256:
                raise ValueError(f"a protocol's name has 1 to 255 bytes, got {name!r}")
        if keyfile is not None and certfile is None:
            raise ValueError(f"keyfile={keyfile!r} needs a certfile too")
        identity = (
            None if certfile is None else (os.fspath(certfile), os.fspath(keyfile or certfile))
        )
        level = (_NAME if check_hostname else _CHAIN) if verify else _NOTHING
        path = None if cafile is None else os.fspath(cafile)
        self.settings = _core.TlsSettings(
            path,
            None,
            identity,
            level,
            _TLS12 | _TLS13,
            protocols,
            _CLIENTS.index(client_certs),
        )
        given = {"cafile": cafile, "certfile": certfile, "keyfile": keyfile}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        shown += [
            f"{name}=False"
            for name, value in (("verify", verify), ("check_hostname", check_hostname))
            if not value
        ]
        shown += [f"alpn={list(alpn)!r}"] if alpn else []
        shown += [f"client_certs={client_certs!r}"] if client_certs != "none" else []
        self._shown = f"TLS({', '.join(shown)})"

    def __repr__(self) -> str:
        return self._shown


@functools.cache
def _default() -> _core.TlsSettings:
    return TLS().settings


def settings_of(given: ssl.SSLContext | TLS | bool, *, server: bool) -> _core.TlsSettings:
    """The settings that an ``ssl=`` argument stands for."""
    settings: _core.TlsSettings | None
    if isinstance(given, TLS):
        settings = given.settings
    elif given is True:
        settings = _default()
    else:
        settings = None if server else _from_context(given)
    if server and (settings is None or not settings.has_identity):
        raise ValueError(
            f"a server needs ssl=plait.aio.TLS(certfile=…, keyfile=…), got {given!r}: "
            "an SSLContext doesn't tell which certificate was loaded into it"
        )
    assert settings is not None
    return settings


@functools.cache
def _unused() -> _core.TlsSettings:
    return TLS(verify=False).settings


def settings_for_url(
    given: ssl.SSLContext | TLS | bool, url: str, follow_redirects: bool
) -> _core.TlsSettings:
    """The same for `http_get`; the system's authorities are read only where they are needed."""
    if given is True and not follow_redirects and url[:5].lower() == "http:":
        return _unused()
    if given is False or given is None:
        raise ValueError("ssl=TLS(verify=False) accepts any server")
    if given is True or isinstance(given, TLS):
        return settings_of(given, server=False)
    # The same settings each time, so that connections are kept, unless the context has changed.
    facts = (given.verify_mode, given.check_hostname, given.options, _versions(given))
    return _cached(given, facts, tuple(given.cert_store_stats().values()))


@functools.lru_cache(maxsize=16)
def _cached(given: ssl.SSLContext, *facts: object) -> _core.TlsSettings:
    return settings_of(given, server=False)


def _from_context(context: object) -> _core.TlsSettings:
    """Raises ValueError for what rustls can't do or an SSLContext doesn't tell."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl must be True, an ssl.SSLContext or plait.aio.TLS, got {context!r}")
    if context.verify_mode is ssl.CERT_NONE:
        level, authorities = _NOTHING, None
    else:
        level = _NAME if context.check_hostname else _CHAIN
        authorities = context.get_ca_certs(binary_form=True)
        if not authorities:
            raise ValueError(
                "this SSLContext tells of no certificate to trust (those of a capath can't be "
                "read back): pass ssl=True for the system's, or plait.aio.TLS(cafile=…)"
            )
    versions = _versions(context)
    if not versions:
        raise ValueError(
            f"this SSLContext allows {context.minimum_version.name} to "
            f"{context.maximum_version.name}; plait speaks TLSv1_2 and TLSv1_3"
        )
    return _core.TlsSettings(None, authorities, None, level, versions)


def _versions(context: ssl.SSLContext) -> int:
    import ssl

    lowest, highest = context.minimum_version, context.maximum_version
    versions = 0
    for bit, version, option in (
        (_TLS12, ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
        (_TLS13, ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
    ):
        above = lowest is ssl.TLSVersion.MINIMUM_SUPPORTED or (
            lowest is not ssl.TLSVersion.MAXIMUM_SUPPORTED and version >= lowest
        )
        below = highest is ssl.TLSVersion.MAXIMUM_SUPPORTED or (
            highest is not ssl.TLSVersion.MINIMUM_SUPPORTED and version <= highest
        )
        if above and below and not context.options & option:
            versions |= bit
    return versions

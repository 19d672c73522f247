"""plait.aio over TLS: good certificates, bad ones, and what an SSLContext tells."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from plait import aio

x509 = pytest.importorskip("cryptography.x509", reason="makes the certificates")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

HOST = "127.0.0.1"
DAY = datetime.timedelta(days=1)
SIGNS = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Maker:
    """Makes certificates in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.key, self.name = ec.generate_private_key(ec.SECP256R1()), self.named("plait's tests")
        built = self.build(self.name, self.key, -1, 30)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        # Python 3.13 has OpenSSL insist on these.
        built = built.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False
        )
        built = built.add_extension(SIGNS, True)
        self.root = self.write("root", built.sign(self.key, hashes.SHA256()))

    @staticmethod
    def named(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def build(self, subject, key, first_day, last_day):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + first_day * DAY)
            .not_valid_after(now + last_day * DAY)
        )

    def write(self, name, certificate, key=None):
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        path = self.folder / f"{name}.pem"
        if key is not None:
            pem += key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        path.write_bytes(pem)
        return str(path)

    def host(self, name, *, first_day=-1, last_day=30, ca=False, self_signed=False):
        """A certificate for `name` and 127.0.0.1 (unless it is named otherwise), with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self.build(self.named(name), key, first_day, last_day)
        if self_signed:
            builder = x509.CertificateBuilder(
                self.named(name),
                self.named(name),
                *[
                    getattr(builder, part)
                    for part in (
                        "_public_key",
                        "_serial_number",
                        "_not_valid_before",
                        "_not_valid_after",
                    )
                ],
            )
        names = [x509.DNSName(name)]
        if name == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address(HOST)))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        signer = key if self_signed else self.key
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(issuer, False)
        file = f"{name}{first_day}{ca}{self_signed}"
        return self.write(file, builder.sign(signer, hashes.SHA256()), key)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(certificates):
    return certificates.host("localhost")


def run(coro):
    return asyncio.run(asyncio.wait_for(coro, 40))


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def serve(certificate):
    return aio.start_server(echo, HOST, 0, ssl=aio.TLS(certfile=certificate))


def address_of(server):
    return server.sockets[0].getsockname()


def client_context(root, **settings):
    context = ssl.create_default_context(cafile=root)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("settings", ["TLS", "context"])
def test_bytes_pass_both_ways(certificates, good, settings):
    given = aio.TLS(certificates.root) if settings == "TLS" else client_context(certificates.root)
    payload = bytes(range(256)) * 8000

    async def main():
        async with await serve(good) as server:
            reader, writer = await aio.open_connection(*address_of(server), ssl=given)
            sending = asyncio.create_task(send(writer))
            assert await reader.readexactly(len(payload)) == payload
            await sending
            assert not writer.can_write_eof()
            with pytest.raises(NotImplementedError):
                writer.write_eof()
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == "TLSv1.3"
            assert tls.cipher() == writer.get_extra_info("cipher")
            known = ssl.PEM_cert_to_DER_cert(Path(good).read_text().split("-----BEGIN PRIVATE")[0])
            assert tls.getpeercert(binary_form=True) == known
            writer.close()
            await writer.wait_closed()

    async def send(writer):
        writer.write(payload)
        await writer.drain()

    run(main())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_with_asyncio_on_the_other_side(certificates, good, version):
    version = ssl.TLSVersion[version]
    limited = client_context(certificates.root, minimum_version=version, maximum_version=version)

    async def talk(reader, writer):
        writer.write(b"x" * 200_000 + b"\n")
        await writer.drain()
        assert await reader.readexactly(200_001) == b"x" * 200_000 + b"\n"
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await serve(good) as server:
            await talk(*await asyncio.open_connection(*address_of(server), ssl=limited))
        theirs = await asyncio.start_server(echo, HOST, 0, ssl=server_context(good))
        async with theirs:
            await talk(*await aio.open_connection(*address_of(theirs), ssl=limited))

    run(main())


def test_servers_who_are_not_who_they_should_be(certificates, good):
    other = certificates.host("other.example")
    expired = certificates.host("localhost", first_day=-9, last_day=-2)
    lone = certificates.host("localhost", self_signed=True)

    async def main():
        for certificate, text, code in (
            (other, "127.0.0.1", 62),  # OpenSSL's numbers
            (expired, "xpired", 10),
            (lone, "UnknownIssuer", 20),
        ):
            async with await serve(certificate) as server:
                with pytest.raises(ssl.SSLCertVerificationError, match=text) as caught:
                    await aio.open_connection(*address_of(server), ssl=aio.TLS(certificates.root))
                assert str(address_of(server)[1]) in str(caught.value)
                assert caught.value.verify_code == code
                assert text in caught.value.verify_message
                assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
                _, writer = await aio.open_connection(
                    *address_of(server), ssl=aio.TLS(verify=False)
                )
                writer.close()
        async with await serve(good) as server:
            with pytest.raises(ssl.SSLCertVerificationError, match="UnknownIssuer"):
                await aio.open_connection(*address_of(server), ssl=aio.TLS(lone))

    run(main())


def test_the_name_may_be_left_out_or_given(certificates):
    other = certificates.host("other.example")
    root = certificates.root

    async def main():
        async with await serve(other) as server:
            for options in (
                {"ssl": aio.TLS(root, check_hostname=False)},
                {"ssl": client_context(root, check_hostname=False)},
                {"ssl": aio.TLS(root), "server_hostname": "other.example"},
            ):
                _, writer = await aio.open_connection(*address_of(server), **options)
                writer.close()

    run(main())


@pytest.mark.parametrize("ca", [False, True])
def test_a_self_signed_certificate_can_be_trusted_itself(certificates, ca):
    lone = certificates.host("localhost", self_signed=True, ca=ca)
    wrong = certificates.host("other.example", self_signed=True, ca=ca)

    async def main():
        async with await serve(lone) as server:
            _, writer = await aio.open_connection(*address_of(server), ssl=aio.TLS(lone))
            writer.close()
        async with await serve(wrong) as server:
            with pytest.raises(ssl.SSLCertVerificationError, match="name"):
                await aio.open_connection(*address_of(server), ssl=aio.TLS(wrong))

    run(main())


def test_a_connection_can_go_over_to_tls(certificates, good):
    async def server_side(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(aio.TLS(certfile=good))
        await echo(reader, writer)

    async def main():
        async with await aio.start_server(server_side, HOST, 0) as server:
            reader, writer = await aio.open_connection(*address_of(server))
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(aio.TLS(certificates.root), server_hostname="localhost")
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"
            writer.close()

    run(main())


def test_a_peer_that_speaks_something_else(certificates, good):
    async def greet(reader, writer):
        writer.write(b"220 this is no TLS\r\n")
        await reader.read()
        writer.close()

    async def main():
        trusting = aio.TLS(certificates.root)
        async with await aio.start_server(greet, HOST, 0) as server:
            with pytest.raises(ssl.SSLError, match="does not speak TLS") as caught:
                await aio.open_connection(*address_of(server), ssl=trusting)
            assert str(address_of(server)) in str(caught.value)
            assert caught.value.reason == "WRONG_VERSION_NUMBER"
        async with await aio.start_server(lambda _, writer: writer.close(), HOST, 0) as server:
            with pytest.raises(ConnectionResetError):
                await aio.open_connection(*address_of(server), ssl=trusting)
        async with await aio.start_server(lambda *pair: silent.append(pair), HOST, 0) as server:
            silent = []
            for options, error in (
                ({"ssl_handshake_timeout": 0.05}, ConnectionAbortedError),
                ({"timeout": 0.05}, TimeoutError),
            ):
                with pytest.raises(error, match=r"0\.05"):
                    await aio.open_connection(*address_of(server), ssl=trusting, **options)
            server.close()
            server.abort_clients()
        async with await serve(good) as server:  # and a client that does
            reader, writer = await aio.open_connection(*address_of(server))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b"HTTP" not in await reader.read()
            writer.close()

    run(main())


@pytest.mark.filterwarnings("ignore:ssl.OP_NO_SSL:DeprecationWarning")
def test_settings_that_cannot_be_used(certificates, good, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("nothing")

    async def refused(error, text, **options):
        with pytest.raises(error, match=text):
            await aio.open_connection(HOST, 1, **options)

    async def main():
        await refused(TypeError, "SSLContext or plait", ssl="yes")
        await refused(ValueError, "capath", ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        old = client_context(certificates.root, maximum_version=ssl.TLSVersion.TLSv1_2)
        old.options |= ssl.OP_NO_TLSv1_2
        await refused(ValueError, "speaks TLSv1_2", ssl=old)
        for given in (server_context(good), aio.TLS(certificates.root)):
            with pytest.raises(ValueError, match="certfile"):
                await aio.start_server(echo, HOST, 0, ssl=given)
        with pytest.raises(TypeError, match="ssl"):
            await aio.start_server(echo, HOST, 0, ssl=True)

    run(main())
    with pytest.raises(FileNotFoundError, match="missing"):
        aio.TLS(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="none in it"):
        aio.TLS(str(empty))
    with pytest.raises(ValueError, match="private key"):
        aio.TLS(certfile=certificates.root)
    with pytest.raises(ValueError, match="certfile"):
        aio.TLS(keyfile=good)
    assert repr(aio.TLS(good, verify=False)) == f"TLS(cafile={good!r}, verify=False)"


def test_https(certificates, good):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async def main():
        tls = aio.TLS(certfile=good)
        async with await aio.start_server(answer, HOST, 0, ssl=tls) as server:
            url = "https://{}:{}/".format(*address_of(server))
            for trusting in (aio.TLS(certificates.root), client_context(certificates.root)):
                page = await aio.http_get(url, ssl=trusting)
                assert (page.status, page.body, page.url) == (200, b"ok", url)
            with pytest.raises(ssl.SSLCertVerificationError, match="UnknownIssuer"):
                await aio.http_get(url)

    run(main())


@pytest.mark.parametrize("theirs", [False, True], ids=["plait", "asyncio"])
@pytest.mark.parametrize(
    ("server_has", "client_has", "chosen"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),  # the server's taste decides
        (["h2"], [], None),
        ([], ["h2"], None),
    ],
)
def test_a_protocol_is_agreed_on(certificates, good, theirs, server_has, client_has, chosen):
    told = []

    async def tell(reader, writer):
        told.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await echo(reader, writer)

    async def main():
        settings = aio.TLS(certfile=good, alpn=server_has)
        async with await aio.start_server(tell, HOST, 0, ssl=settings) as server:
            if theirs:
                context = client_context(certificates.root)
                context.set_alpn_protocols(client_has)
                opened = asyncio.open_connection(*address_of(server), ssl=context)
            else:
                mine = aio.TLS(certificates.root, alpn=client_has)
                opened = aio.open_connection(*address_of(server), ssl=mine)
            reader, writer = await opened
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            tls = writer.get_extra_info("ssl_object")
            assert [tls.selected_alpn_protocol()] == told == [chosen]
            writer.close()
            await writer.wait_closed()

    run(main())


def test_no_protocol_in_common(certificates, good):
    async def main():
        settings = aio.TLS(certfile=good, alpn=["a"])
        async with await aio.start_server(echo, HOST, 0, ssl=settings) as server:
            mine = aio.TLS(certificates.root, alpn=["b"])
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await aio.open_connection(*address_of(server), ssl=mine)

    run(main())


async def ask(server, settings):
    """What comes back; a client hears only then that its certificate is not good (TLS 1.3)."""
    reader, writer = await aio.open_connection(*address_of(server), ssl=settings)
    try:
        writer.write(b"hello")
        return await reader.readexactly(5)
    finally:
        writer.close()


def test_a_server_may_ask_for_certificates(certificates, good, tmp_path):
    stranger = Maker(tmp_path).host("localhost")
    root, seen = certificates.root, []

    async def look(reader, writer):
        seen.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        await echo(reader, writer)

    async def main():
        for wish in ("optional", "required"):
            settings = aio.TLS(root, good, client_certs=wish)
            assert repr(wish) in repr(settings)
            async with await aio.start_server(look, HOST, 0, ssl=settings) as server:
                assert await ask(server, aio.TLS(root, good)) == b"hello"
                assert seen.pop() is not None
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await ask(server, aio.TLS(root, stranger))
                if wish == "optional":
                    assert await ask(server, aio.TLS(root)) == b"hello"
                    assert seen.pop() is None
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        await ask(server, aio.TLS(root))
                assert not seen

    run(main())


def test_wishes_that_make_no_sense(certificates, good):
    for wrong, text in (
        ({"client_certs": "required", "certfile": good}, "cafile"),
        ({"client_certs": "required", "cafile": certificates.root}, "certfile"),
        ({"client_certs": "yes"}, "one of"),
        ({"alpn": [""]}, "1 to 255"),
        ({"alpn": ["x" * 256]}, "1 to 255"),
    ):
        with pytest.raises(ValueError, match=text):
            aio.TLS(**wrong)
    with pytest.raises(TypeError, match="sequence of names"):
        aio.TLS(alpn="h2")

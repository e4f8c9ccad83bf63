"""Python's ssl as client and as backend, in each version of TLS and in none, with a proxy in between.

usage: matrix.py authority.pem backend.pem backend.key

Prints the ports of the backends (plain, TLS 1.2, TLS 1.3), reads a line with those of the proxy (plain, TLS), and names each
part as it comes to its end.
"""

import select
import socket
import ssl
import struct
import sys
import threading

AUTHORITY, CERTIFICATE, KEY = sys.argv[1:]
SPEECHES = [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
SIZE = 16 << 20
CHUNK = 65536
BOUND = 20
# Of a length that nothing else here has, so that a lost or doubled piece is noticed.
PATTERN = bytes(number * number % 251 for number in range(100_003))
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"


def pinned(context, version):
    context.minimum_version = context.maximum_version = version
    return context


class Backend:
    """Takes one tunnel after the other, and does with it what the test says."""

    def __init__(self, version):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(BOUND)
        self.context = None
        if version:
            self.context = pinned(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
            self.context.load_cert_chain(CERTIFICATE, KEY)

    def port(self):
        return self.listener.getsockname()[1]

    def accept(self):
        link, _ = self.listener.accept()
        link.settimeout(BOUND)
        if self.context:
            link = self.context.wrap_socket(
                link, server_side=True, suppress_ragged_eofs=False
            )
        head(link)
        link.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        return link


def connect(port, version, path):
    link = socket.create_connection(("127.0.0.1" if not version else "127.0.0.2", port))
    link.settimeout(BOUND)
    if version:
        context = pinned(ssl.create_default_context(cafile=AUTHORITY), version)
        link = context.wrap_socket(
            link, server_hostname="front.example", suppress_ragged_eofs=False
        )
    link.sendall(
        f"GET {path} HTTP/1.1\r\nHost: front.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return link


def head(link):
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        found += link.recv(1)
    return found


def expect(link, expected):
    found = b""
    while len(found) < len(expected):
        piece = link.recv(len(expected) - len(found))
        assert piece, f"the end after {len(found)} bytes"
        found += piece
    assert found == expected


def expect_end(link):
    try:
        assert link.recv(1) == b""
    except ssl.SSLZeroReturnError:
        # Its way to say that the other side has ended, once it has done so itself.
        pass


def finish(link):
    """Says that nothing more is sent; what the other side sends can still be read."""
    if not isinstance(link, ssl.SSLSocket):
        link.shutdown(socket.SHUT_WR)
        return
    link.settimeout(0)
    try:
        link.unwrap()
    except ssl.SSLWantReadError:
        pass
    link.settimeout(BOUND)


def at_once(link):
    """Sends and receives SIZE bytes at the same time."""
    link.settimeout(0)
    sent = received = 0
    while sent < SIZE or received < SIZE:
        moved = False
        if sent < SIZE:
            start = sent % len(PATTERN)
            piece = PATTERN[start : start + min(CHUNK, SIZE - sent)]
            try:
                sent += link.send(piece)
                moved = True
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
        if received < SIZE:
            try:
                found = link.recv(CHUNK)
                assert found, f"the end after {received} bytes"
                moved = True
                while found:
                    start = received % len(PATTERN)
                    length = min(len(found), len(PATTERN) - start)
                    assert found[:length] == PATTERN[start : start + length], received
                    found = found[length:]
                    received += length
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
        if not moved:
            ready = select.select([link], [link] if sent < SIZE else [], [], BOUND)
            assert any(ready), f"stuck at {sent} sent, {received} received"
    link.settimeout(BOUND)


def stream(client, peer):
    failures = []

    def other_side():
        try:
            at_once(peer)
        except Exception as failure:
            failures.append(failure)

    thread = threading.Thread(target=other_side)
    thread.start()
    at_once(client)
    thread.join()
    assert not failures, failures


def echo(client, peer):
    for size in [1, 1000, 16_384, 50_000]:
        client.sendall(PATTERN[:size])
        expect(peer, PATTERN[:size])
        peer.sendall(PATTERN[-size:])
        expect(client, PATTERN[-size:])


def client_ends_first(client, peer):
    client.sendall(PATTERN)
    finish(client)
    expect(peer, PATTERN)
    expect_end(peer)
    peer.sendall(PATTERN)
    expect(client, PATTERN)
    finish(peer)
    expect_end(client)


def backend_ends_first(client, peer):
    # The frame says Close, in the way of a server.
    closing = b"\x88\x02\x03\xe8"
    peer.sendall(closing)
    finish(peer)
    expect(client, closing)
    expect_end(client)
    client.sendall(CLOSE + PATTERN)
    finish(client)
    expect(peer, CLOSE + PATTERN)
    expect_end(peer)


def reset(client, peer):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    try:
        expect_end(peer)
    except (ConnectionResetError, ssl.SSLEOFError):
        pass


backends = [Backend(version) for version in SPEECHES]
print(*(backend.port() for backend in backends), flush=True)
plain, tls = map(int, sys.stdin.readline().split())
for version in SPEECHES:
    for path, backend in zip(["/plain/", "/1.2/", "/1.3/"], backends):
        for part in [echo, stream, client_ends_first, backend_ends_first, reset]:
            client = connect(tls if version else plain, version, path)
            peer = backend.accept()
            assert head(client).startswith(b"HTTP/1.1 101 ")
            part(client, peer)
            print(version, path, part.__name__, flush=True)
            client.close()
            peer.close()

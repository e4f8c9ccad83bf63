"""Ends of TLS connections as Python sees them: without a close_notify it speaks of a violation of the protocol.

usage: ends.py port authority.pem
"""

import socket
import ssl
import sys

NAME = "front.example"
CHUNK = 65536


def connect(version):
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.minimum_version = context.maximum_version = version
    tcp = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    return context.wrap_socket(
        tcp, server_hostname=NAME, suppress_ragged_eofs=False
    )


def request(path, fields=""):
    return f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n".encode()


def rest(tls):
    """All until the other side says that it has ended."""
    pieces = []
    while piece := tls.recv(CHUNK):
        pieces.append(piece)
    return b"".join(pieces)


def head(tls):
    """A head, and nothing behind it."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        found += tls.recv(1)
    return found.decode()


def frame(payload):
    return bytes([0x82, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def last_answer(version):
    tls = connect(version)
    tls.sendall(request("/page/", "Connection: close\r\n"))
    answer = rest(tls)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    # Both have said that they have ended: the socket is plain again, and at its end.
    assert tls.unwrap().recv(1) == b""


def refusal(version):
    tls = connect(version)
    tls.sendall(b"no request\r\n\r\n")
    answer = rest(tls)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


def end_of_keep_alive(version):
    tls = connect(version)
    tls.sendall(request("/nothing"))
    answer = rest(tls)
    assert answer.startswith(b"HTTP/1.1 404 "), answer


def end_of_the_client(version):
    tls = connect(version)
    # It waits for the same from the other side.
    tls.unwrap()


def end_of_the_client_behind_an_answer(version):
    tls = connect(version)
    tls.sendall(request("/page/"))
    answer = head(tls)
    assert answer.startswith("HTTP/1.1 200 "), answer
    assert tls.recv(CHUNK) == b"GET /"
    tls.unwrap()


def end_of_a_tunnel(version):
    fields = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    tls = connect(version)
    tls.sendall(request("/ws/", fields))
    answer = head(tls)
    assert answer.startswith("HTTP/1.1 101 "), answer
    payload = bytes(range(100))
    tls.sendall(frame(payload))
    echo = b""
    while len(echo) < 102:
        echo += tls.recv(102 - len(echo))
    assert echo == b"\x82\x64" + payload, echo
    # Close, as the client: the server answers it and ends.
    tls.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 3, 0xE8]))
    assert rest(tls) == b"\x88\x02\x03\xe8"
    tls.unwrap()


for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
    for part in [
        last_answer,
        refusal,
        end_of_keep_alive,
        end_of_the_client,
        end_of_the_client_behind_an_answer,
        end_of_a_tunnel,
    ]:
        part(version)
        print(part.__name__, flush=True)

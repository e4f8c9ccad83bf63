"""Ordinary requests by Python's http.client and the package `requests`, and a WebSocket by `websockets`, to app.js through
the proxy. Exits with 0 if it all went well."""

import asyncio
import http.client
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import requests
from websockets.asyncio.client import connect

URL = sys.argv[1]
ADDRESS = urllib.parse.urlsplit(URL).netloc
CONTENT = bytes(index * 7 % 251 for index in range(1 << 16)) * 16


def http_client():
    connection = http.client.HTTPConnection(ADDRESS, timeout=20)
    for _ in range(50):
        connection.request("POST", "/echo", body=CONTENT[:1000])
        with connection.getresponse() as answer:
            assert answer.status == 200 and answer.read() == CONTENT[:1000]
        socket = connection.sock
        assert socket is not None, "the connection was not kept"
    connection.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True)
    assert connection.getresponse().read() == b"one two three"
    connection.request("HEAD", "/seen")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "application/json" and answer.read() == b""
    # The names of fields are told as they were written, and those for this hop are not told.
    connection.request("GET", "/seen?a=%20b", headers={"X-Own": "1", "Connection": "X-Hop", "X-Hop": "1"})
    seen = connection.getresponse().read().decode()
    assert '"url":"/seen?a=%20b"' in seen and '"x-own":"1"' in seen and "x-hop" not in seen, seen
    assert connection.sock is socket, "another connection"
    connection.close()


def methods():
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"):
        answer = requests.request(method, URL + "/seen", timeout=20).json()
        assert answer["method"] == method, answer


def uploads():
    with requests.Session() as session:
        assert session.post(URL + "/echo", data=CONTENT, timeout=20).content == CONTENT
        pieces = (CONTENT[start : start + 50_000] for start in range(0, len(CONTENT), 50_000))
        assert session.put(URL + "/echo", data=pieces, timeout=20).content == CONTENT
        form = session.post(URL + "/echo", files={"file": ("name.bin", CONTENT)}, timeout=20)
        assert CONTENT in form.content


def downloads():
    with requests.get(URL + "/bytes?20000000", stream=True, timeout=20) as answer:
        assert "Content-Length" not in answer.headers
        assert sum(map(len, answer.iter_content(70_000))) == 20_000_000


def redirections_and_cookies():
    with requests.Session() as session:
        answer = session.get(URL + "/moved?/seen?x", timeout=20)
        assert answer.url == URL + "/seen?x", answer.url
        assert [session.get(URL + "/session", timeout=20).text for _ in range(3)] == ["1", "2", "3"]
        assert session.cookies.get("other") == "1"


def many_at_once():
    def ask(number):
        with requests.Session() as session:
            for step in range(20):
                query = f"{number}-{step}"
                assert session.get(f"{URL}/seen?{query}", timeout=20).json()["url"] == f"/seen?{query}"

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))


def a_websocket_beside_them():
    async def exchange():
        async with connect("ws://" + ADDRESS + "/seen", proxy=None, open_timeout=20) as connection:
            await connection.send("at the same URL")
            assert await connection.recv() == "at the same URL"
            assert requests.get(URL + "/seen", timeout=20).status_code == 200

    asyncio.run(exchange())


for part in (http_client, methods, uploads, downloads, redirections_and_cookies, many_at_once, a_websocket_beside_them):
    part()
    print(part.__name__, flush=True)

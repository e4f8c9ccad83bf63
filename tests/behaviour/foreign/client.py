"""A WebSocket client by the Python package `websockets`: goes through everything, and exits with 0 if it all went well."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = sys.argv[1]


def open_connection(**options):
    return connect(URL, max_size=None, proxy=None, open_timeout=20, **options)


async def exchange(connection, message):
    await connection.send(message)
    answer = await asyncio.wait_for(connection.recv(), 60)
    assert answer == message, f"{len(message)} sent, {len(answer)} came back"


async def messages():
    async with open_connection() as connection:
        await exchange(connection, "")
        await exchange(connection, "a greeting, also to Zoë, 世界 and 🦀")
        await exchange(connection, bytes(range(256)))


async def fragments():
    async with open_connection() as connection:
        await connection.send(["one ", "", "two ", "three"])
        assert await connection.recv() == "one two three"
        await connection.send([b"\x00", b"\x01\x02"])
        assert await connection.recv() == b"\x00\x01\x02"
        await connection.send("fragments 5")
        assert await connection.recv() == "0,1,2,3,4,"


async def sixteen_mebibytes():
    size = 16 << 20
    for compression in ("deflate", None):
        async with open_connection(compression=compression) as connection:
            await exchange(connection, "x" * size)
            await exchange(connection, bytes(index * 7 % 251 for index in range(1 << 16)) * (size >> 16))


async def ping_and_pong():
    async with open_connection() as connection:
        await asyncio.wait_for(await connection.ping(b"from the client"), 20)
        await connection.send("ping")
        assert await connection.recv() == "ponged"


async def close_codes():
    connection = await open_connection()
    await connection.close(4001, "from the client")
    async with open_connection() as connection:
        await connection.send("reason 4001")
        told = await asyncio.wait_for(connection.recv(), 20)
        assert told == "from the client", told
    for code in (1000, 1011, 4002):
        connection = await open_connection()
        await connection.send(f"close {code}")
        try:
            await connection.recv()
            raise AssertionError("a message instead of a close")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == code, closed
            assert closed.rcvd.reason == "from the server", closed


async def subprotocols():
    async with open_connection(subprotocols=["superchat", "chat"]) as connection:
        assert connection.subprotocol == "chat", connection.subprotocol
        await connection.send("subprotocol")
        assert await connection.recv() == "chat"
    async with open_connection() as connection:
        assert connection.subprotocol is None


async def compression():
    for wanted, expected in (("deflate", ["permessage-deflate"]), (None, [])):
        async with open_connection(compression=wanted) as connection:
            found = [extension.name for extension in connection.protocol.extensions]
            assert found == expected, found
            await exchange(connection, "again and " * 10_000)


async def main():
    for part in (messages, fragments, sixteen_mebibytes, ping_and_pong, close_codes, subprotocols, compression):
        await part()
        print(part.__name__, flush=True)


asyncio.run(main())

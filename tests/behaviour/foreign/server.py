"""A WebSocket server by the Python package `websockets`. Prints its port, and serves until its input ends.

It sends every message back, but for those that ask for something:
  fragments N   sends a message of N fragments
  ping          pings, waits for the pong, and says so
  close CODE    closes with this code and the reason "from the server"
  reason CODE   waits until a client has closed some connection with this code, and says for which reason
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# A client sees its connection end before its server does: what it asks of the end has to wait for it.
reasons = {}
end_of_one = asyncio.Condition()


async def handle(connection):
    try:
        async for message in connection:
            if not isinstance(message, str):
                await connection.send(message)
            elif message.startswith("fragments "):
                count = int(message.split()[1])
                await connection.send([f"{part}," for part in range(count)])
            elif message == "ping":
                await asyncio.wait_for(await connection.ping(b"from the server"), 20)
                await connection.send("ponged")
            elif message.startswith("close "):
                await connection.close(int(message.split()[1]), "from the server")
            elif message.startswith("reason "):
                code = int(message.split()[1])
                async with end_of_one:
                    await asyncio.wait_for(end_of_one.wait_for(lambda: code in reasons), 20)
                await connection.send(reasons[code])
            elif message == "subprotocol":
                await connection.send(str(connection.subprotocol))
            else:
                await connection.send(message)
    except ConnectionClosed:
        pass
    closed = connection.protocol.close_rcvd
    if closed is not None and connection.protocol.close_rcvd_then_sent:
        async with end_of_one:
            reasons[closed.code] = closed.reason
            end_of_one.notify_all()


def select(connection, offered):
    return "chat" if "chat" in offered else None


async def main():
    async with serve(
        handle, "127.0.0.1", 0, max_size=None, subprotocols=["chat"], select_subprotocol=select
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())

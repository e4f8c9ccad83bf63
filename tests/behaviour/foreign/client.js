// A WebSocket client by the npm package `ws`: goes through everything, and exits with 0 if it all went well.
'use strict';
const assert = require('assert');
const { once } = require('events');
const WebSocket = require('ws');

const url = process.argv[2];

async function open(protocols = [], options = {}) {
  const socket = new WebSocket(url, protocols, { maxPayload: 64 << 20, handshakeTimeout: 20000, ...options });
  await once(socket, 'open');
  return socket;
}

async function receive(socket) {
  const [data, isBinary] = await once(socket, 'message');
  return isBinary ? data : data.toString();
}

async function exchange(socket, message) {
  const answer = receive(socket);
  socket.send(message);
  const found = await answer;
  assert(
    Buffer.isBuffer(message) ? message.equals(found) : message === found,
    `${message.length} sent, ${found.length} came back`,
  );
}

async function close(socket) {
  const closed = once(socket, 'close');
  socket.close(1000);
  await closed;
}

const parts = {
  async messages() {
    const socket = await open();
    await exchange(socket, '');
    await exchange(socket, 'a greeting, also to Zoë, 世界 and 🦀');
    await exchange(socket, Buffer.from(Array.from({ length: 256 }, (_, index) => index)));
    await close(socket);
  },

  async fragments() {
    const socket = await open();
    let answer = receive(socket);
    socket.send('one ', { fin: false });
    socket.send('', { fin: false });
    socket.send('two ', { fin: false });
    socket.send('three', { fin: true });
    assert.strictEqual(await answer, 'one two three');
    answer = receive(socket);
    socket.send('fragments 5');
    assert.strictEqual(await answer, '0,1,2,3,4,');
    await close(socket);
  },

  async sixteenMebibytes() {
    const size = 16 << 20;
    for (const perMessageDeflate of [true, false]) {
      const socket = await open([], { perMessageDeflate });
      await exchange(socket, 'x'.repeat(size));
      await exchange(socket, Buffer.alloc(size, Buffer.from(Array.from({ length: 251 }, (_, index) => index))));
      await close(socket);
    }
  },

  async pingAndPong() {
    const socket = await open();
    const pong = once(socket, 'pong');
    socket.ping('from the client');
    assert.strictEqual((await pong)[0].toString(), 'from the client');
    const answer = receive(socket);
    socket.send('ping');
    assert.strictEqual(await answer, 'ponged');
    await close(socket);
  },

  async closeCodes() {
    let socket = await open();
    let closed = once(socket, 'close');
    socket.close(4001, 'from the client');
    await closed;
    socket = await open();
    const answer = receive(socket);
    socket.send('reason 4001');
    assert.strictEqual(await answer, 'from the client');
    await close(socket);
    for (const code of [1000, 1011, 4002]) {
      socket = await open();
      closed = once(socket, 'close');
      socket.send(`close ${code}`);
      const [found, reason] = await closed;
      assert.strictEqual(found, code);
      assert.strictEqual(reason.toString(), 'from the server');
    }
  },

  async subprotocols() {
    const socket = await open(['superchat', 'chat']);
    assert.strictEqual(socket.protocol, 'chat');
    const answer = receive(socket);
    socket.send('subprotocol');
    assert.strictEqual(await answer, 'chat');
    await close(socket);
  },

  async compression() {
    for (const perMessageDeflate of [true, false]) {
      const socket = await open([], { perMessageDeflate });
      assert.strictEqual(socket.extensions, perMessageDeflate ? 'permessage-deflate' : '');
      await exchange(socket, 'again and '.repeat(10000));
      await close(socket);
    }
  },
};

(async () => {
  for (const [name, part] of Object.entries(parts)) {
    await part();
    console.log(name);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

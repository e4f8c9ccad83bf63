// A client by the npm package `socket.io-client`: socket_io.js URL TRANSPORTS LAST connects by these transports (separated by
// commas, the first one first), waits until LAST carries it, goes through everything, and exits with 0 if it all went well.
'use strict';
const assert = require('assert');
const { once } = require('events');
const { io } = require('socket.io-client');

const [url, transports, last] = process.argv.slice(2);

async function open() {
  const socket = io(url, { transports: transports.split(','), forceNew: true, reconnection: false, timeout: 20000 });
  let first;
  socket.io.once('open', () => { first = socket.io.engine.transport.name; });
  await new Promise((resolve, reject) => {
    socket.on('connect', resolve);
    socket.on('connect_error', reject);
  });
  assert.strictEqual(first, transports.split(',')[0]);
  const { engine } = socket.io;
  if (engine.transport.name !== last) await new Promise((resolve) => { engine.once('upgrade', resolve); });
  return socket;
}

async function exchange(socket, data) {
  const found = await socket.timeout(20000).emitWithAck('echo', data);
  assert.deepStrictEqual(found, data);
}

const parts = {
  async messages() {
    const socket = await open();
    await exchange(socket, 'a greeting, also to Zoë, 世界 and 🦀');
    await exchange(socket, { deep: [1, { down: null }] });
    await exchange(socket, Buffer.alloc(1 << 20, Buffer.from(Array.from({ length: 251 }, (_, index) => index))));
    assert.strictEqual(socket.io.engine.transport.name, last);
    socket.disconnect();
  },

  // While it may still be changing from one transport to the other nothing gets lost, and nothing comes twice.
  async manyAtOnce() {
    const socket = io(url, { transports: transports.split(','), forceNew: true, reconnection: false });
    const pushed = [];
    socket.on('pushed', (number) => pushed.push(number));
    socket.emit('push', 200);
    const numbers = Array.from({ length: 200 }, (_, index) => index);
    const found = await Promise.all(numbers.map((number) => socket.timeout(20000).emitWithAck('echo', number)));
    assert.deepStrictEqual(found, numbers);
    assert.deepStrictEqual(pushed, numbers);
    socket.disconnect();
  },

  // The server notices that its client is gone.
  async ends() {
    const socket = await open();
    const { engine } = socket.io;
    const closed = once(engine, 'close');
    socket.disconnect();
    await closed;
  },
};

(async () => {
  for (const [name, part] of Object.entries(parts)) {
    await part();
    console.log(name);
  }
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

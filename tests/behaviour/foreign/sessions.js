// Many clients by the npm package `socket.io-client`, with cookies: sessions.js URL COUNT has COUNT sessions at a time, of which
// every other one goes over to a WebSocket and the rest live of polling. Each prints its name when it has come to its end; a
// server that does not know a session refuses its request, which ends the session, and then exits with 1.
'use strict';
const assert = require('assert');
const { once } = require('events');
const { io } = require('socket.io-client');

const [url, count] = process.argv.slice(2);

async function session(number) {
  const upgrades = number % 2 === 0;
  const transports = upgrades ? ['polling', 'websocket'] : ['polling'];
  const socket = io(url, { transports, withCredentials: true, forceNew: true, reconnection: false, timeout: 20000 });
  const lost = new Promise((resolve, reject) => {
    socket.on('connect_error', reject);
    socket.on('disconnect', (why) => reject(new Error(`session ${number} ended: ${why}`)));
  });
  // Whoever waits for something else hears of it there.
  lost.catch(() => {});
  const unless = (promise) => Promise.race([promise, lost]);
  const { engine } = socket.io;
  const upgraded = upgrades && once(engine, 'upgrade');
  await unless(once(socket, 'connect'));
  const { id } = engine;
  const exchange = async () => {
    for (let message = 0; message < 8; message += 1) {
      const data = `message ${message} of session ${number}`;
      assert.strictEqual(await unless(socket.timeout(20000).emitWithAck('echo', data)), data);
    }
  };
  await exchange();
  if (upgrades) await unless(upgraded);
  await exchange();
  assert.strictEqual(engine.transport.name, upgrades ? 'websocket' : 'polling');
  assert.strictEqual(engine.id, id);
  socket.off('disconnect');
  socket.disconnect();
  console.log(`session ${number}`);
}

Promise.all(Array.from({ length: Number(count) }, (_, number) => session(number))).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

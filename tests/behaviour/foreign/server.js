// A WebSocket server by the npm package `ws`. Prints its port, and serves until its input ends; or lends what it does to
// app.js. What it answers is described in server.py.
'use strict';
const { EventEmitter, once } = require('events');
const { WebSocketServer } = require('ws');

// A client sees its connection end before its server does: what it asks of the end has to wait for it.
const reasons = new Map();
const ends = new EventEmitter();
const options = {
  maxPayload: 64 << 20,
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has('chat') ? 'chat' : false),
};

function speak(socket) {
  let closing = false;
  socket.on('message', async (data, isBinary) => {
    const [word, argument] = isBinary || data.length > 100 ? [] : data.toString().split(' ');
    if (word === 'fragments') {
      for (let part = 0; part < Number(argument); part += 1) {
        socket.send(`${part},`, { fin: part + 1 === Number(argument) });
      }
    } else if (word === 'ping') {
      socket.once('pong', () => socket.send('ponged'));
      socket.ping('from the server');
    } else if (word === 'close') {
      closing = true;
      socket.close(Number(argument), 'from the server');
    } else if (word === 'reason') {
      while (!reasons.has(Number(argument))) await once(ends, 'one');
      socket.send(reasons.get(Number(argument)));
    } else if (word === 'subprotocol') {
      socket.send(socket.protocol);
    } else {
      socket.send(data, { binary: isBinary });
    }
  });
  socket.on('close', (code, reason) => {
    if (closing) return;
    reasons.set(code, reason.toString());
    ends.emit('one');
  });
}

module.exports = { options, speak };
if (require.main === module) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options });
  server.on('connection', speak);
  server.on('listening', () => console.log(server.address().port));
  process.stdin.on('end', () => process.exit(0)).resume();
}

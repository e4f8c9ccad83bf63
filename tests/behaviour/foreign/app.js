// An application with pages, WebSockets at any path and socket.io, all at one port. Prints it, and serves until its input ends.
//
//   /             a page that tries all of this in a browser
//   /echo         the content that was sent, once all of it is there; /stream: while it comes, in chunks
//   /seen         the request as it has arrived, in JSON
//   /bytes?N      N bytes, without their length
//   /moved?PATH   elsewhere, by the address at which the application listens
//   /session      counts by a cookie that is for this path
//   elsewhere     404, or a WebSocket
'use strict';
const fs = require('fs');
const http = require('http');
const path = require('path');
const { Server } = require('socket.io');
const { WebSocketServer } = require('ws');
const { options, speak } = require('./server');

const page = fs.readFileSync(path.join(__dirname, 'app.html'));

const pages = {
  '/': (request, response) => response.setHeader('Content-Type', 'text/html').end(page),

  '/kit.js': (request, response) => response.setHeader('Content-Type', 'text/javascript').end('const kit = "loaded";\n'),

  '/echo': (request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => response.end(Buffer.concat(parts)));
  },

  '/stream': (request, response) => request.pipe(response),

  '/seen': (request, response) => {
    const { method, url, headers, httpVersion } = request;
    response.setHeader('Content-Type', 'application/json').end(JSON.stringify({ method, url, headers, httpVersion }));
  },

  '/bytes': (request, response) => {
    let left = Number(request.url.split('?')[1]);
    const piece = Buffer.alloc(65521, 'proxied ');
    const more = () => {
      while (left > 0) {
        const count = Math.min(left, piece.length);
        left -= count;
        if (!response.write(piece.subarray(0, count))) return;
      }
      response.end();
    };
    response.on('drain', more);
    more();
  },

  '/moved': (request, response) => {
    const { localAddress, localPort } = request.socket;
    response.writeHead(302, { Location: `http://${localAddress}:${localPort}${request.url.slice('/moved?'.length)}` }).end();
  },

  '/session': (request, response) => {
    const count = 1 + Number(/count=(\d+)/.exec(request.headers.cookie ?? '')?.[1] ?? 0);
    response.setHeader('Set-Cookie', [`count=${count}; Path=/session; HttpOnly`, 'other=1; Path=/']).end(`${count}`);
  },
};

const server = http.createServer((request, response) => {
  const show = pages[request.url.split('?')[0]];
  if (show) show(request, response);
  else response.writeHead(404).end('nothing here\n');
});

const sockets = new WebSocketServer({ noServer: true, ...options });
sockets.on('connection', speak);
server.on('upgrade', (request, socket, head) => {
  if (request.url.startsWith('/socket.io/')) return;
  sockets.handleUpgrade(request, socket, head, (found) => sockets.emit('connection', found, request));
});

// Upgrades at other paths are none of its business.
const io = new Server(server, { destroyUpgrade: false, maxHttpBufferSize: 8 << 20 });
io.on('connection', (socket) => {
  socket.on('echo', (data, answer) => answer(data));
  socket.on('push', (count) => {
    for (let number = 0; number < count; number += 1) socket.emit('pushed', number);
  });
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();

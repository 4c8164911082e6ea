// An echoing WebSocket server (RFC 6455) on Node's http server: text, binary, ping, close.
const http = require('http');
const crypto = require('crypto');

function frame(opcode, payload) {
  const head = payload.length < 126 ? Buffer.from([0x80 | opcode, payload.length])
    : Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([head, payload]);
}

// One whole masked frame at the start of `data`, or nothing.
function read(data) {
  if (data.length < 2) return null;
  let length = data[1] & 0x7f;
  let at = 2;
  if (length === 126) { if (data.length < 4) return null; length = data.readUInt16BE(2); at = 4; }
  const mask = data.subarray(at, at + 4);
  if (data.length < at + 4 + length) return null;
  const payload = Buffer.from(data.subarray(at + 4, at + 4 + length).map((b, i) => b ^ mask[i % 4]));
  return { opcode: data[0] & 0x0f, payload, size: at + 4 + length };
}

const server = http.createServer((request, response) => response.end('plain\n'));
server.on('upgrade', (request, socket, head) => {
  const accept = crypto.createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
    .digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let held = head;
  socket.on('data', (data) => {
    held = Buffer.concat([held, data]);
    for (let got = read(held); got; got = read(held)) {
      held = held.subarray(got.size);
      if (got.opcode === 0x8) { socket.end(frame(0x8, got.payload)); return; }
      socket.write(frame(got.opcode === 0x9 ? 0xA : got.opcode, got.payload));
    }
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1');

// A Redis client in Node.js on a raw socket: small pipelines, a reply cut into pieces on purpose by
// reading slowly. Prints its truth, a JSON object for each command.
const net = require('net');

const commands = [
  [['SELECT', '2'], ['SET', 'node:é', 'grüße'], ['GET', 'node:é']],
  [['HSET', 'node:h', 'a', '1', 'b', '2'], ['HGETALL', 'node:h'], ['HINCRBY', 'node:h', 'a', 'x']],
  [['SADD', 'node:s', ...Array.from({ length: 300 }, (_, i) => `member-${i}`)]],
  [['SMEMBERS', 'node:s'], ['SCARD', 'node:s'], ['GET', 'node:s']],
  [['XADD', 'node:x', '*', 'field', 'value'], ['XRANGE', 'node:x', '-', '+'], ['DBSIZE']],
];

// Length of the reply at the start of `text` (RESP2, one character a byte), or 0 if it is not whole.
function replyLength(text) {
  const end = text.indexOf('\r\n');
  if (end < 0) return 0;
  let size = end + 2;
  const count = Number(text.slice(1, end));
  if (text[0] === '$') return count < 0 ? size : text.length < size + count + 2 ? 0 : size + count + 2;
  if (text[0] !== '*') return size;
  for (let i = 0; i < count; i++) {
    const item = replyLength(text.slice(size));
    if (!item) return 0;
    size += item;
  }
  return size;
}

const socket = net.connect(Number(process.argv[2]), '127.0.0.1', sendBatch);
socket.setEncoding('latin1');
let waiting = [];
let held = '';

function sendBatch() {
  waiting = commands.shift() || [];
  if (!waiting.length) { socket.end(); return; }
  socket.write(waiting.map((words) => `*${words.length}\r\n` +
    words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')).join(''));
}

socket.on('data', (data) => {
  held += data;
  for (let size = replyLength(held); size && waiting.length; size = replyLength(held)) {
    const reply = held.slice(0, size);
    held = held.slice(size);
    const [operation, target = ''] = waiting.shift();
    const status = reply[0] === '-' ? reply.slice(1).split(/[ \r]/)[0] : 'OK';
    console.log(JSON.stringify({ protocol: 'redis', operation, target, status }));
  }
  if (!waiting.length) sendBatch();
});

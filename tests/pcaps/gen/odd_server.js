// HTTP responses that a well-behaved server rarely sends. One process: Node's own server on the
// first port, and a raw one, which writes bytes by hand, on the second.
const http = require('http');
const net = require('net');

const [port, rawPort] = process.argv.slice(2).map(Number);

http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    if (request.url === '/trailers') {
      response.writeHead(200, { 'Transfer-Encoding': 'chunked', Trailer: 'X-Checksum' });
      response.write('first');
      response.addTrailers({ 'X-Checksum': 'abc' });
      response.end();
      return;
    }
    response.writeHead(200);  // No length: Node answers in chunks.
    for (let i = 0; i < 20; i++) response.write(`part ${i}\n`.repeat(i + 1));
    response.end();
  });
}).listen(port, '127.0.0.1');

net.createServer((socket) => {
  socket.once('data', (head) => {
    const target = head.toString().split(' ')[1];
    if (target === '/until-close') {
      socket.end('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n' + 'no length\n'.repeat(500));
      return;
    }
    socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n' +
      '5;name=value\r\nhello\r\n0006 ;quoted="a;b"\r\n world\r\nA\r\n0123456789\r\n' +
      '0;last\r\nX-Trailer: one\r\nX-Trailer: two\r\n\r\n');
  });
  socket.on('error', () => {});
}).listen(rawPort, '127.0.0.1');

// A server that reads what it should refuse, and prints every request as it understood it.
const http = require('http');

const server = http.createServer({ insecureHTTPParser: true }, (request, response) => {
  let body = '';
  request.on('data', (data) => { body += data; });
  request.on('end', () => {
    response.on('finish', () => console.log(JSON.stringify({
      protocol: 'http', operation: request.method, target: request.url, status: '200',
      body_bytes: body.length,
    })));
    response.end('read\n');
  });
});
server.on('clientError', (error, socket) => {
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
});
server.listen(Number(process.argv[2]), '127.0.0.1');

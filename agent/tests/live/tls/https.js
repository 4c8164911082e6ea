// HTTPS with Node.js: OpenSSL inside of the program, ciphertext through memory.
//
// serve PORT CERT KEY: HTTP/1.1 and HTTP/2; answers anything, /fail with 500, gRPC with status 0.
// get PORT TRACEPARENT COUNT: asks COUNT times in turn and COUNT times at once with HTTP/1.1, and
// COUNT times at once with HTTP/2, and prints how many answers were 200.
// talk PORT: asks on one connection for the paths in its input's lines, and prints each status.
'use strict';
const fs = require('fs');
const http2 = require('http2');
const https = require('https');
const readline = require('readline');

function serve(port, cert, key) {
  const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true };
  const server = http2.createSecureServer(options, (request, response) => {
    if ((request.headers['content-type'] || '').startsWith('application/grpc')) {
      request.resume();
      request.on('end', () => {
        response.writeHead(200, { 'content-type': 'application/grpc' });
        response.setTrailer('grpc-status', '0');
        response.end(Buffer.from([0, 0, 0, 0, 2, 104, 105]));
      });
      return;
    }
    response.statusCode = request.url.startsWith('/fail') ? 500 : 200;
    response.end('It works.\n');
  });
  server.listen(+port, '127.0.0.1');
}

function ask(agent, port, path, headers) {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, agent, headers, rejectUnauthorized: false };
    https.get(options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    }).on('error', reject);
  });
}

function askTwo(session, path, headers) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path, ...headers });
    let status;
    stream.on('response', (head) => { status = head[':status']; });
    stream.on('error', reject);
    stream.on('end', () => resolve(status));
    stream.resume();
    stream.end();
  });
}

async function get(port, traceparent, count) {
  const numbers = [...Array(+count).keys()];
  const agent = new https.Agent({ keepAlive: true, maxSockets: 4 });
  const one = (path) => ask(agent, port, path, { traceparent });
  const statuses = [];
  for (const n of numbers) statuses.push(await one(`/in-turn?${n}`));
  statuses.push(...await Promise.all(numbers.map((n) => one(`/at-once?${n}`))));
  await one('/fail');
  agent.destroy();
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  const two = (n) => askTwo(session, `/two?${n}`, { traceparent });
  statuses.push(...await Promise.all(numbers.map(two)));
  session.close();
  console.log(statuses.filter((status) => status === 200).length);
}

async function talk(port) {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(await ask(agent, port, line, {}));
  }
  agent.destroy();
}

const [command, ...rest] = process.argv.slice(2);
({ serve, get, talk })[command](...rest);

// An HTTP/2 server without TLS, whose answer the path names.
const http2 = require('http2');

const routes = {
  status: (stream, code) => stream.respond({ ':status': Number(code) }, { endStream: true }),
  slow: (stream, milliseconds) => setTimeout(() => {
    if (stream.destroyed) return;
    stream.respond({ ':status': 200 });
    stream.end('at last\n');
  }, Number(milliseconds)),
  echo: (stream) => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  },
  hints: (stream) => {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
    stream.additionalHeaders({ ':status': 103, link: '</script.js>; rel=preload' });
    stream.respond({ ':status': 200 });
    stream.end('after two hints\n');
  },
  trailers: (stream) => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'abc' }));
    stream.end('before the trailers\n');
  },
  endless: (stream) => {
    stream.respond({ ':status': 200 });
    stream.write('the first of many\n');
  },
  silent: () => {},
  refuse: (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
  broken: (stream) => {
    stream.respond({ ':status': 200 });
    stream.write('half of');
    setTimeout(() => stream.destroy(new Error('on purpose')), 20);
  },
  large: (stream, size) => {
    stream.respond({ ':status': 200, 'x-large': '~'.repeat(Number(size)), 'x-behind': 'it' });
    stream.end('small\n');
  },
  push: (stream) => stream.pushStream({ ':path': '/pushed.css' }, (error, pushed) => {
    pushed.respond({ ':status': 200 });
    pushed.end('p {}\n');
    stream.respond({ ':status': 200 });
    stream.end('<link href=pushed.css>\n');
  }),
  // No stream behind this one is accepted; those that are open go on.
  goaway: (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('the last\n');
    stream.session.goaway(0, stream.id);
  },
};

const server = http2.createServer({
  settings: { enableConnectProtocol: true, maxHeaderListSize: 60000 },
});
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  if (headers[':method'] === 'CONNECT') { routes.echo(stream); return; }
  const [, name, argument] = headers[':path'].split(/[/?]/);
  if (name !== 'echo') stream.resume();
  (routes[name] || ((other) => routes.status(other, 404)))(stream, argument);
});
server.on('session', (session) => session.on('error', () => {}));
server.listen(Number(process.argv[2]), '127.0.0.1');

// An HTTP/2 client on one connection. Prints its truth, a JSON object for each request when it ends.
// Arguments: port, case.
const http2 = require('http2');

const [port, name] = process.argv.slice(2);
const session = http2.connect(`http://127.0.0.1:${port}`, { settings: { enablePush: true } });
session.on('error', () => {});

// Asks, and ends when the stream does. `options`: body (string, or parts of one), headers, and what
// to do with the stream, `act`. The status is "" where the stream ended without one.
function ask(method, target, { body, headers = {}, act, note = {} } = {}) {
  return new Promise((resolve) => {
    const endStream = body === undefined && !act?.open;
    const address = method === 'CONNECT' && !headers[':protocol'] ? {} : { ':path': target };
    const stream = session.request({ ':method': method, ...address, ...headers }, { endStream });
    let status = '';
    stream.on('response', (got) => { status = String(got[':status']); act?.response?.(stream); });
    stream.on('error', () => {});
    stream.on('close', () => {
      const traceparent = headers.traceparent;
      console.log(JSON.stringify(
        { protocol: 'http', operation: method, target, status, traceparent, ...note }));
      resolve(status);
    });
    stream.resume();
    act?.start?.(stream);
    if (body !== undefined) write(stream, [].concat(body));
  });
}

// Part by part, so that the frames of several streams alternate.
function write(stream, parts) {
  if (parts.length === 1) { stream.end(parts[0]); return; }
  stream.write(parts[0], () => setImmediate(write, stream, parts.slice(1)));
}

// The other side's word, on standard input, that the capture has begun.
function captured() {
  console.log('');
  return new Promise((resolve) => process.stdin.once('data', resolve));
}

const secrets = { authorization: 'Bearer CANARY', cookie: 'session=CANARY' };

const cases = {
  basic: async () => {
    for (const code of [200, 204, 304, 404, 500, 503, 418]) await ask('GET', `/status/${code}`);
    await ask('HEAD', '/echo?head', { headers: secrets });
    await ask('POST', '/echo?post', { body: 'CANARY'.repeat(1000), headers: secrets });
    await ask('PUT', '/echo?put', { body: '' });
    await ask('PATCH', '/status/200?patch', { body: '{}' });
    await ask('DELETE', '/status/204?delete');
    await ask('OPTIONS', '/echo?options');
    await ask('GET', '/status/200?' + 'long=true&'.repeat(200));
  },
  interleaved: () => Promise.all(Array.from({ length: 50 }, (_, n) =>
    ask('POST', `/echo?n=${n}`, { body: Array(3).fill(`${n} `.repeat(100)) }))),
  traceparent: async () => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    const parents = [1, 2, 3].map((n) => `00-${trace}-00f067aa0ba902b${n}-01`);
    for (const traceparent of [...parents, `00-${trace}-00f067aa0ba902b4-00`,
      `cc-${trace}-00f067aa0ba902b5-01-future`, `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, 'no']) {
      await ask('GET', `/status/200?${traceparent}`, { headers: { traceparent, tracestate: 'a=1' } });
      await ask('GET', `/status/200?again=${traceparent}`, { headers: { traceparent } });
    }
    for (const b3 of [`${trace}-00f067aa0ba902b7-1`, '0']) {
      await ask('GET', `/status/200?b3=${b3}`, { headers: { b3 }, note: { b3 } });
    }
    await ask('GET', '/status/200?untraced');
  },
  trailers: async () => {
    await ask('GET', '/trailers');
    await ask('GET', '/hints');
    await Promise.all([1, 2, 3].flatMap((n) =>
      [ask('GET', `/hints?${n}`), ask('POST', `/trailers?${n}`, { body: 'x' })]));
  },
  push: async () => {
    session.on('stream', (pushed) => pushed.resume());
    await Promise.all([ask('GET', '/push'), ask('GET', '/echo?beside')]);
    await ask('GET', '/push?again');
  },
  reset: async () => {
    const later = (stream) => setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 50);
    await ask('GET', '/silent', { act: { start: later } });
    await ask('GET', '/endless', { act: { response: later } });
    await ask('POST', '/echo?half', { act: { open: true, start: (s) => { s.write('half of'); later(s); } } });
    await ask('GET', '/refuse');
    await ask('GET', '/broken');
    await Promise.all([1, 2, 3, 4].map((n) => n % 2
      ? ask('GET', `/silent?${n}`, { act: { start: later } }) : ask('GET', `/slow/80?${n}`)));
    await ask('GET', '/status/200?still-there');
  },
  'large-headers': async () => {
    const headers = Object.fromEntries([1, 2, 3, 4].map((n) => [`x-${n}`, '{}'.repeat(4000)]));
    await ask('GET', '/status/200?large', { headers });
    await ask('POST', '/echo?large', { headers: { ...headers, ...secrets }, body: 'behind it' });
    await ask('GET', '/large/40000');
    await Promise.all([ask('GET', '/large/20000'), ask('GET', '/echo?beside'), ask('GET', '/large/3')]);
    await ask('GET', '/status/404?small');
  },
  connect: async () => {
    if (!session.remoteSettings?.enableConnectProtocol) {
      await new Promise((resolve) => session.once('remoteSettings', resolve));
    }
    // A frame of WebSocket (RFC 8441), then what looks like a request: it is data, no exchange.
    const speak = { open: true, start: (stream) => {
      stream.write(Buffer.from('8185000000006162636465', 'hex'));
      stream.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      setTimeout(() => stream.end(), 50);
    } };
    await ask('CONNECT', '/chat?room=1', { headers: { ':protocol': 'websocket' }, act: speak });
    await ask('CONNECT', 'db.example:5432', { headers: { ':authority': 'db.example:5432' }, act: speak });
    await ask('GET', '/status/200?behind');
  },
  // What the table held before the capture is not known in it: such a target, method or status is
  // noted as unknown.
  midstream: async () => {
    const before = { 'x-before': 'known to both sides', 'user-agent': 'node' };
    await ask('PUT', '/status/201?unseen', { body: '', headers: before });
    await ask('GET', '/silent', { headers: before, act: { start: (s) => setTimeout(() => s.close(8), 20) } });
    await captured();
    for (let n = 0; n < 5; n++) {
      await ask('GET', `/status/200?${n}`, { headers: before });
      await ask('POST', `/echo?${n}`, { body: 'x', headers: { ...before, 'x-new': `${n}` } });
      await ask('PUT', `/status/201?${n}`, { body: '', headers: before, note: { operation: '', status: '' } });
      await ask('DELETE', `/status/503?${n}`, { headers: before });
    }
  },
};

cases[name]().then(() => session.close());

// What the Node.js services share: a server, and asking auth.
'use strict';
const http = require('node:http');

const healthy = process.env.SHOP === 'healthy';

// The agent sends what it holds on SIGTERM and leaves the rest to us.
process.once('SIGTERM', () => setTimeout(() => process.exit(0), 300));

function verify(token) {
  if (healthy) return Promise.resolve(true);
  return new Promise((resolve, reject) => {
    const call = http.get(`${process.env.AUTH_URL}/verify`, { headers: { authorization: token ?? '' } }, (answer) => {
      let body = '';
      answer.on('data', (part) => { body += part; });
      answer.on('end', () => resolve(JSON.parse(body).valid));
    });
    call.on('error', reject);
  });
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

function serve(handle) {
  http.createServer((request, response) => {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', async () => {
      try {
        if (!(await verify(request.headers.authorization))) return answer(response, 401, { error: 'who are you?' });
        await handle(request, response, body);
      } catch (error) {
        answer(response, 500, { error: String(error) });
      }
    });
  }).listen(Number(process.env.PORT), '127.0.0.1');
}

module.exports = { answer, healthy, serve };

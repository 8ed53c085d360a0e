// Popular libraries of Node.js, each used once below one span, and servers of three frameworks that they call.
const { trace } = require('@opentelemetry/api');
const hapi = require('@hapi/hapi');
const fastify = require('fastify');
const http = require('node:http');
const Redis = require('ioredis');
const Koa = require('koa');
const Router = require('@koa/router');
const redis = require('redis');
const winston = require('winston');

const get = (port, path) => new Promise((done, failed) => {
  http.get({ host: '127.0.0.1', port, path, agent: false }, (answer) => {
    let text = '';
    answer.on('data', (part) => (text += part)).on('end', () => done(text));
  }).on('error', failed);
});

async function main() {
  const router = new Router();
  router.get('/koa/:name', (context) => (context.body = `hello ${context.params.name}`));
  const koa = new Koa().use(router.routes()).listen(0, '127.0.0.1');
  const fast = fastify();
  fast.get('/fastify/:name', async (request) => `hello ${request.params.name}`);
  await fast.listen({ port: 0, host: '127.0.0.1' });
  const happy = hapi.server({ port: 0, host: '127.0.0.1' });
  happy.route({ method: 'GET', path: '/hapi/{name}', handler: (request) => `hello ${request.params.name}` });
  await happy.start();
  const io = new Redis(process.env.REDIS_URL);
  const node = await redis.createClient({ url: process.env.REDIS_URL }).connect();
  const log = winston.createLogger({ transports: [new winston.transports.Console()] });

  await trace.getTracer('libraries').startActiveSpan('all of them', async (span) => {
    for (const [port, path] of [
      [koa.address().port, '/koa/a'], [fast.server.address().port, '/fastify/b'], [happy.info.port, '/hapi/c'],
    ]) {
      const text = await get(port, path);
      if (!text.startsWith('hello ')) throw new Error(text);
    }
    await io.set('stock', 3);
    await node.get('stock');
    log.info('counted');
    span.end();
  });
  koa.close();
  await fast.close();
  await happy.stop();
  io.disconnect();
  await node.close();
  console.log('DONE');
}

main();

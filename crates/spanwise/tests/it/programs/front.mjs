// The entrance: an ES module with Express that asks the stock.
import express from 'express';
import pino from 'pino';

const log = pino(pino.destination(2));
const app = express();
app.get('/shop/:item', async (request, response) => {
  const answer = await fetch(`${process.env.STOCK_URL}/stock/${request.params.item}`);
  log.info(`shop of ${request.params.item}`);
  response.json(await answer.json());
});
app.post('/buy/:item', async (request, response) => {
  const card = request.query.card ?? 'new';
  const answer = await fetch(`${process.env.STOCK_URL}/buy/${request.params.item}?card=${card}`, { method: 'POST' });
  log.info(`buying ${request.params.item}`);
  response.status(answer.status).send(await answer.text());
});
app.get('/broken', () => {
  throw new Error('front is broken');
});
const server = app.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));

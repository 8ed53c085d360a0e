'use strict';
const { setTimeout: wait } = require('node:timers/promises');
const { answer, healthy, serve } = require('./service.js');

// What the bank takes for a card of the old kind before we give up on it.
const BANK_TIMEOUT_MS = 1500;

serve(async (request, response, body) => {
  const order = JSON.parse(body);
  await wait(10);
  if (order.card === 'old' && !healthy) {
    await wait(BANK_TIMEOUT_MS);
    return answer(response, 504, { error: 'the bank did not answer' });
  }
  answer(response, 200, { paid: order.total });
});

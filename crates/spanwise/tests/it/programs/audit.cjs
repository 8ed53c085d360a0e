// The audit: a CommonJS server; with KAFKA it turns orders into invoices.
const http = require('node:http');

const server = http.createServer((request, response) => response.end('noted'));
server.listen(0, '127.0.0.1', async () => {
  if (process.env.KAFKA) {
    const { Kafka, logLevel } = require('kafkajs');
    const kafka = new Kafka({ clientId: 'audit', brokers: [process.env.KAFKA], logLevel: logLevel.ERROR });
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: 'orders' }, { topic: 'invoices' }] });
    await admin.disconnect();
    const producer = kafka.producer();
    const consumer = kafka.consumer({ groupId: 'audit' });
    await producer.connect();
    await consumer.connect();
    await consumer.subscribe({ topic: 'orders', fromBeginning: true });
    await consumer.run({
      eachMessage: ({ message }) => producer.send({ topic: 'invoices', messages: [{ value: message.value }] }),
    });
  }
  console.log(`PORT ${server.address().port}`);
});

// The audit: a CommonJS server over HTTP and gRPC; with KAFKA it turns orders into invoices, and takes refunds in batches.
const http = require('node:http');

// A service without a schema: bytes in, bytes out.
function serveGrpc() {
  const grpc = require('@grpc/grpc-js');
  const bytes = (value) => value;
  const check = {
    path: '/shop.Audit/Check', requestStream: false, responseStream: false, requestSerialize: bytes,
    requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes,
  };
  const rpc = new grpc.Server();
  rpc.addService({ Check: check }, { Check: (call, answer) => answer(null, Buffer.from('checked')) });
  const credentials = grpc.ServerCredentials.createInsecure();
  return new Promise((done) => rpc.bindAsync('127.0.0.1:0', credentials, (_, port) => done(port)));
}

const server = http.createServer((request, response) => {
  if (process.env.ONCE) response.on('close', () => process.exit(0));
  response.end(request.url === '/verify' ? '{"valid":true}' : 'noted');
});
server.listen(0, '127.0.0.1', async () => {
  if (process.env.KAFKA) {
    const { Kafka, logLevel } = require('kafkajs');
    const kafka = new Kafka({ clientId: 'audit', brokers: [process.env.KAFKA], logLevel: logLevel.ERROR });
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ waitForLeaders: true, topics: ['orders', 'invoices', 'refunds'].map((topic) => ({ topic })) });
    await admin.disconnect();
    const producer = kafka.producer();
    const consumer = kafka.consumer({ groupId: 'audit' });
    await producer.connect();
    await consumer.connect();
    await consumer.subscribe({ topic: 'orders', fromBeginning: true });
    await consumer.run({
      eachMessage: ({ message }) => producer.send({ topic: 'invoices', messages: [{ value: message.value }] }),
    });
    const refunds = kafka.consumer({ groupId: 'refunds' });
    await refunds.connect();
    await refunds.subscribe({ topic: 'refunds', fromBeginning: true });
    await refunds.run({ eachBatch: async () => {} });
  }
  if (process.env.GRPC) console.log(`GRPC ${await serveGrpc()}`);
  console.log(`PORT ${server.address().port}`);
});

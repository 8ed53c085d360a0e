// OpenTelemetry's own sampler for Jaeger's remote sampling: says whenever it changes its mind.
const { ROOT_CONTEXT, SpanKind } = require('@opentelemetry/api');
const { JaegerRemoteSampler } = require('@opentelemetry/sampler-jaeger-remote');
const { SamplingDecision } = require('@opentelemetry/sdk-trace');

const never = { shouldSample: () => ({ decision: SamplingDecision.NOT_RECORD }), toString: () => 'never' };
const sampler = new JaegerRemoteSampler({
  endpoint: process.env.SAMPLING, serviceName: 'shop', initialSampler: never, poolingInterval: 50,
});
let last;
setInterval(() => {
  const trace = 'ffffffffffffffffffffffffffffff00';
  const decide = (name) => sampler.shouldSample(ROOT_CONTEXT, trace, name, SpanKind.SERVER, {}, []).decision;
  const now = ['GET /', 'GET /rare'].map((name) => decide(name) === SamplingDecision.RECORD_AND_SAMPLED).join(' ');
  if (now !== last) console.log(`SAMPLES ${now}`);
  last = now;
}, 20);

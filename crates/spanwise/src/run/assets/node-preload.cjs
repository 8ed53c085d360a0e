// Node.js loads this first because `spanwise run` put it into NODE_OPTIONS. It starts the OpenTelemetry SDK with every
// automatic instrumentation, for CommonJS and for ES modules, and leaves the program's signals and exit as they are.
// Whatever goes wrong here is swallowed: the program runs without traces.
'use strict';

const { createRequire, register } = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { isMainThread, parentPort } = require('node:worker_threads');

const mark = Symbol.for('spanwise.preload');
const timeout = 'OTEL_EXPORTER_OTLP_TIMEOUT';
const probing = process.env.SPANWISE_PROBE === '1';
// Package managers run the program; they are not the program.
const isPackageManager = /[\\/](npm|npx|yarn|yarnpkg|pnpm|pnpx|corepack)(-cli)?(\.[cm]?js)?$/.test(process.argv[1] || '');
// Node.js runs module hooks in a thread of its own, and loads preloads there, too.
const isHooksThread = !isMainThread && parentPort === null;

if (!globalThis[mark] && !isPackageManager && !isHooksThread) {
  globalThis[mark] = true;
  try {
    start();
  } catch (error) {
    if (probing) throw error;
    if (process.env.SPANWISE_DEBUG) console.error(`spanwise: no traces of this process: ${error.stack}`);
    note(`no traces of ${process.execPath} (Node.js ${process.version}): ${error.message}`);
  }
}

// For `spanwise run`, which prints it: the program's standard error is the program's.
function note(problem) {
  try {
    const file = path.join(process.env.SPANWISE_RUN_NOTES, `node-${process.pid}`);
    require('node:fs').writeFileSync(file, problem.split('\n')[0]);
  } catch {
    // Nobody listens.
  }
}

function start() {
  const agent = process.env.SPANWISE_NODE_AGENT;
  if (!agent) throw new Error('SPANWISE_NODE_AGENT is not set');
  const from = createRequire(path.join(agent, 'package.json'));
  const { NodeSDK } = from('@opentelemetry/sdk-node');
  const { getNodeAutoInstrumentations, getResourceDetectors } = from('@opentelemetry/auto-instrumentations-node');
  const instrumentations = getNodeAutoInstrumentations();
  const options = { instrumentations, resourceDetectors: getResourceDetectors() };
  if (!process.env.OTEL_SERVICE_NAME && !/(^|,)\s*service\.name=/.test(process.env.OTEL_RESOURCE_ATTRIBUTES || '')) {
    options.serviceName = serviceName();
  }
  // A receiver on this machine answers at once or is not there: a program's end does not wait ten seconds for it.
  const endpoint = process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || process.env.OTEL_EXPORTER_OTLP_ENDPOINT || '';
  const isBounded = /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:|\/|$)/.test(endpoint) && !process.env[timeout];
  if (isBounded) process.env[timeout] = '2000';
  const sdk = new NodeSDK(options);
  sdk.start();
  if (isBounded) delete process.env[timeout];
  hookModules(agent, instrumentations);
  const lost = countLost(sdk);
  let stopped;
  const stop = () => (stopped ??= Promise.resolve(sdk.shutdown()).catch(() => {}));
  process.once('beforeExit', stop);
  process.once('exit', () => {
    lost.count += sendRest(from, sdk);
    lost.tell();
  });
  if (isMainThread) keepSignals(stop, sdk, lost);
}

function waiting(sdk) {
  return sdk._tracerProvider?._activeSpanProcessor?._spanProcessors || [];
}

// What is not delivered is counted, for `spanwise run`.
function countLost(sdk) {
  const directory = process.env.SPANWISE_RUN_NOTES;
  const lost = { count: 0, unanswered: 0, tell() {} };
  if (!directory) return lost;
  lost.tell = () => {
    try {
      const name = `lost-node-${process.pid}`;
      if (lost.count > 0) require('node:fs').writeFileSync(path.join(directory, name), String(lost.count));
    } catch {
      // Nobody listens.
    }
  };
  for (const one of waiting(sdk).filter((one) => one._exporter && one._addToBuffer)) {
    const send = one._exporter.export.bind(one._exporter);
    one._exporter.export = (spans, done) => {
      lost.unanswered += spans.length;
      send(spans, (result) => {
        lost.unanswered -= spans.length;
        if (result.code !== 0) lost.count += spans.length;
        done(result);
      });
    };
    const add = one._addToBuffer.bind(one);
    one._addToBuffer = (span) => {
      if (one._finishedSpans.length >= one._maxQueueSize) lost.count += 1;
      add(span);
    };
  }
  return lost;
}

// ES modules: only what an instrumentation asked for is wrapped, so that nothing else can break.
function hookModules(agent, instrumentations) {
  const names = new Set(instrumentations.flatMap((one) => (one._modules || []).map((module) => module.name)));
  const include = [...names].filter((name) => !path.isAbsolute(name));
  const hook = path.join(agent, 'node_modules', 'import-in-the-middle', 'hook.mjs');
  register(pathToFileURL(hook).href, { parentURL: pathToFileURL(hook).href, data: { include } });
}

// A program without a handler ends by the signal, as it would without us, after at most two seconds for its last spans.
function keepSignals(stop, sdk, lost) {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
    let seen = false;
    const onSignal = () => {
      const isOurs = process.listenerCount(signal) === 1;
      if (!isOurs) {
        // The program has a handler of its own, and decides. What has ended is sent now.
        sdk._tracerProvider?.forceFlush?.().catch(() => {});
        return;
      }
      const end = () => {
        lost.count += lost.unanswered + waiting(sdk).reduce((sum, one) => sum + (one._finishedSpans?.length || 0), 0);
        lost.tell();
        process.removeListener(signal, onSignal);
        process.kill(process.pid, signal);
      };
      if (seen) return end();
      seen = true;
      Promise.race([stop(), new Promise((done) => setTimeout(done, 2000))]).then(end);
    };
    process.on(signal, onSignal);
  }
}

// `process.exit()` and uncaught errors leave no time for asynchronous work: what is still queued is sent by a process
// of its own, for which this one waits at most two seconds. Answers how many were not delivered.
function sendRest(from, sdk) {
  try {
    const spans = waiting(sdk).flatMap((one) => one._finishedSpans || []);
    const protocol = process.env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || process.env.OTEL_EXPORTER_OTLP_PROTOCOL;
    if (spans.length === 0 || probing || (protocol && protocol !== 'http/protobuf')) return spans.length;
    if (!['otlp', undefined, ''].includes(process.env.OTEL_TRACES_EXPORTER)) return 0;
    const { ProtobufTraceSerializer } = from('@opentelemetry/otlp-transformer');
    const body = ProtobufTraceSerializer.serializeRequest(spans);
    const base = process.env.OTEL_EXPORTER_OTLP_ENDPOINT || 'http://127.0.0.1:4318';
    const url = process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || `${base.replace(/\/$/, '')}/v1/traces`;
    const headers = { 'content-type': 'application/x-protobuf' };
    const pairs = process.env.OTEL_EXPORTER_OTLP_TRACES_HEADERS || process.env.OTEL_EXPORTER_OTLP_HEADERS || '';
    for (const pair of pairs.split(',')) {
      const at = pair.indexOf('=');
      if (at > 0) headers[pair.slice(0, at).trim()] = decodeURIComponent(pair.slice(at + 1).trim());
    }
    const send = `const [url, headers] = JSON.parse(process.env.SPANWISE_SEND); const body = require('fs').readFileSync(0);
const request = require(url.startsWith('https:') ? 'https' : 'http').request(url, { method: 'POST', headers });
request.on('response', (answer) => { process.exitCode = answer.statusCode === 200 ? 0 : 1; answer.resume(); });
request.on('error', () => { process.exitCode = 1; }); request.end(body);`;
    const env = { ...process.env, NODE_OPTIONS: '', SPANWISE_SEND: JSON.stringify([url, headers]) };
    const sent = require('node:child_process').spawnSync(process.execPath, ['-e', send], {
      input: body, env, timeout: 2000, stdio: ['pipe', 'ignore', 'ignore'],
    });
    return sent.status === 0 ? 0 : spans.length;
  } catch {
    return 0;
  }
}

// The name in the nearest package.json, or the script's own.
function serviceName() {
  const fs = require('node:fs');
  const script = process.argv[1];
  if (!script) return 'node';
  for (let at = path.dirname(script); ; at = path.dirname(at)) {
    try {
      const { name } = JSON.parse(fs.readFileSync(path.join(at, 'package.json'), 'utf8'));
      if (typeof name === 'string' && name) return name;
    } catch {
      // None here.
    }
    if (path.dirname(at) === at) break;
  }
  return path.basename(script).replace(/\.[cm]?[jt]s$/, '');
}

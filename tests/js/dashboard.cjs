// Drives the dashboard in Chromium, by the pipe of its remote debugging.
//
//     node dashboard.cjs CHROMIUM ADDRESS STEP...
//
// A step is one of
//     open            opens the page and waits for its figures
//     light, dark     the scheme of colours
//     wide, phone     1280 or 390 columns
//     shot=FILE       writes a picture
//     wait=SECONDS    waits while the page goes on
//     shows=TEXT      waits until the page shows a text
//     is=SCRIPT       waits until an expression is true
//     click=SELECTOR  clicks on the first such element
//     type=SELECTOR=TEXT
//     failures        permits requests that fail from now on
//     stop=PROCESS    kills the broker
// At the end there must have been no error and no request to another origin.

'use strict';

const { spawn } = require('node:child_process');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const PATIENCE_MS = 30_000;
const [chromium, address, ...steps] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'zmqd-chromium-'));
const browser = spawn(chromium, [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
  '--disable-background-networking', '--disable-component-update', '--no-first-run',
  '--hide-scrollbars', '--remote-debugging-pipe', `--user-data-dir=${profile}`, 'about:blank',
], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });

const [input, output] = [browser.stdio[3], browser.stdio[4]];
const waiting = new Map();
const problems = [];
let [count, rest, allowsFailures] = [0, '', false];

output.on('data', (data) => {
  const messages = (rest + data).split('\0');
  rest = messages.pop();
  messages.map((message) => JSON.parse(message)).forEach(handle);
});

function handle({ id, method, params, result, error }) {
  if (id) {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  } else if (method === 'Runtime.exceptionThrown') {
    problems.push(`exception: ${JSON.stringify(params.exceptionDetails)}`);
  } else if (method === 'Log.entryAdded' && params.entry.level === 'error') {
    if (!allowsFailures) problems.push(`log: ${params.entry.text} ${params.entry.url}`);
  } else if (method === 'Runtime.consoleAPICalled') {
    problems.push(`console: ${JSON.stringify(params.args)}`);
  } else if (method === 'Network.requestWillBeSent') {
    const { url } = params.request;
    const isOwn = url.startsWith(`http://${address}/`) || url.startsWith('data:');
    if (!isOwn) problems.push(`a request to ${url}`);
  }
}

let session;
function send(method, params = {}) {
  count += 1;
  const message = { id: count, method, params };
  if (session) message.sessionId = session;
  input.write(`${JSON.stringify(message)}\0`);
  return new Promise((resolve, reject) => waiting.set(message.id, { resolve, reject }));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function evaluate(expression) {
  const { result, exceptionDetails } =
    await send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception.description}`);
  return result.value;
}

async function until(expression) {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await pause(100)) {
    if (await evaluate(expression)) return;
  }
  const page = await evaluate('document.body.innerText');
  throw new Error(`never true: ${expression}; the page has: ${page}`);
}

let [width, scheme] = [1280, 'light'];
async function adjust() {
  const height = width < 500 ? 844 : 820;
  const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 500 };
  await send('Emulation.setDeviceMetricsOverride', metrics);
  const features = [{ name: 'prefers-color-scheme', value: scheme }];
  await send('Emulation.setEmulatedMedia', { features });
}

async function run(step) {
  const [verb, ...words] = step.split('=');
  const text = words.join('=');
  const element = (selector) => `document.querySelector(${JSON.stringify(selector)})`;
  switch (verb) {
    case 'open':
      await send('Page.navigate', { url: `http://${address}/` });
      return until('document.querySelectorAll("#cards .card").length > 0');
    case 'light': case 'dark': scheme = verb; return adjust();
    case 'wide': width = 1280; return adjust();
    case 'phone': width = 390; return adjust();
    case 'failures': allowsFailures = true; return undefined;
    case 'wait': return pause(1000 * Number(text));
    case 'shows': return until(`document.body.innerText.includes(${JSON.stringify(text)})`);
    case 'is': return until(text);
    case 'stop': return process.kill(Number(text), 'SIGKILL');
    case 'click':
      await until(`${element(text)} != null`);
      return evaluate(`${element(text)}.click()`);
    case 'type': {
      const [selector, value] = [words.slice(0, -1).join('='), words.at(-1)];
      await until(`${element(selector)} != null`);
      return evaluate(`{ const it = ${element(selector)}; it.value = ${JSON.stringify(value)};
        it.dispatchEvent(new Event('input', { bubbles: true })); }`);
    }
    case 'shot': {
      await pause(300);
      const { data } = await send('Page.captureScreenshot', { format: 'png' });
      return writeFileSync(text, Buffer.from(data, 'base64'));
    }
    default: throw new Error(`unknown step ${step}`);
  }
}

async function main() {
  const { targetInfos } = await send('Target.getTargets');
  const { targetId } = targetInfos.find((target) => target.type === 'page');
  const attached = await send('Target.attachToTarget', { targetId, flatten: true });
  session = attached.sessionId;
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(`${domain}.enable`);
  await adjust();
  for (const step of steps) await run(step);
  if (problems.length) throw new Error(problems.join('\n'));
}

main().then(() => 0, (error) => {
  console.error(error.message);
  return 1;
}).then((code) => {
  browser.on('exit', () => {
    // Its children end a little later, and may still write.
    try {
      rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
    } catch (error) {
      console.error(error.message);
    }
    process.exit(code);
  });
  browser.kill();
});

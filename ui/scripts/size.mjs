// JavaScript that the first view needs, compressed: at most 350 KiB. What is loaded later is not counted.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const LIMIT = 350 * 1024;
const dist = resolve(dirname(fileURLToPath(import.meta.url)), '../dist');
const open = [...readFileSync(join(dist, 'index.html'), 'utf8').matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)].map(([, name]) => name);
const seen = new Set();
let size = 0;
while (open.length > 0) {
  const name = open.pop();
  if (seen.has(name)) continue;
  seen.add(name);
  const text = readFileSync(join(dist, name));
  size += gzipSync(text, { level: 9 }).length;
  // What is imported with the file; `import()` is what comes later.
  for (const [, other] of text.toString().matchAll(/(?:from|^import|;import)\s*["']\.\/([^"']+\.js)["']/g)) open.push(`assets/${other}`);
}
console.log(`first view: ${(size / 1024).toFixed(0)} KiB of JavaScript, compressed (at most ${LIMIT / 1024})`);
if (size > LIMIT) process.exit(1);

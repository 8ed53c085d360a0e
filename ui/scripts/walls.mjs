// Checks the walls: base <- api <- model, widgets <- views <- app. A view is a file in views/, or a folder there, and
// never imports another view. Also: untrusted text is only ever text, files stay small.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../src');
const allowed = {
  base: ['base'],
  api: ['base', 'api'],
  model: ['base', 'api', 'model'],
  widgets: ['base', 'api', 'model', 'widgets'],
  views: ['base', 'api', 'model', 'widgets', 'views'],
  app: ['base', 'api', 'model', 'widgets', 'views', 'app'],
};
let broken = 0;
const say = (file, text) => {
  console.error(`${relative(root, file)}: ${text}`);
  broken += 1;
};
/** The part of views/ that a file belongs to. */
const viewOf = (path) => path.split('/')[1]?.replace(/\.tsx?$/, '');
for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const file = join(entry.parentPath, entry.name);
  const path = relative(root, file);
  const layer = path.split('/')[0];
  if (!(layer in allowed)) {
    say(file, 'belongs to no layer');
    continue;
  }
  const text = readFileSync(file, 'utf8');
  for (const [, target] of text.matchAll(/(?:from|import\()\s*'(\.[^']*)'/g)) {
    const other = relative(root, resolve(dirname(file), target));
    const otherLayer = other.split('/')[0];
    if (!allowed[layer].includes(otherLayer)) say(file, `${layer} may not import ${otherLayer}`);
    if (layer === 'views' && otherLayer === 'views' && viewOf(path) !== viewOf(other)) say(file, `a view may not import another view: ${target}`);
  }
  if (['base', 'model'].includes(layer) && /from 'react-dom/.test(text)) say(file, `${layer} may not draw`);
  if (layer === 'widgets' && /from '..\/api\/(client|load)'/.test(text) && !/ApiError/.test(text)) say(file, 'widgets do not fetch');
  if (/dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function\(/.test(text)) say(file, 'untrusted text may only be text');
  if (text.split('\n').length > 500) say(file, 'more than 500 lines');
}
if (broken > 0) process.exit(1);

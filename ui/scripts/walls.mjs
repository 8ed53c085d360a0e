// Checks the walls: base <- api <- model, widgets <- views <- app; views never import views.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../src');
const allowed = {
  base: ['base'],
  api: ['base', 'api'],
  model: ['base', 'api', 'model'],
  widgets: ['base', 'api', 'model', 'widgets'],
  views: ['base', 'api', 'model', 'widgets'],
  app: ['base', 'api', 'model', 'widgets', 'views', 'app'],
};
let broken = 0;
const say = (file, text) => {
  console.error(`${relative(root, file)}: ${text}`);
  broken += 1;
};
for (const layer of readdirSync(root)) {
  if (!(layer in allowed)) {
    say(join(root, layer), 'belongs to no layer');
    continue;
  }
  for (const name of readdirSync(join(root, layer))) {
    const file = join(root, layer, name);
    const text = readFileSync(file, 'utf8');
    for (const [, target] of text.matchAll(/from '(\.[^']*)'/g)) {
      const other = relative(root, resolve(dirname(file), target)).split('/')[0];
      if (!allowed[layer].includes(other)) say(file, `${layer} may not import ${other}`);
    }
    if (/dangerouslySetInnerHTML|innerHTML|\beval\(|new Function\(/.test(text)) say(file, 'untrusted text may only be text');
    if (text.split('\n').length > 500) say(file, 'more than 500 lines');
  }
}
if (broken > 0) process.exit(1);

/** The form's fields, as the address holds them. */
export interface Form {
  service: string;
  operation: string;
  minDuration: string;
  errors: boolean;
}

const quote = (text: string) => JSON.stringify(text);

/** TraceQL of the form. */
export function formQuery(form: Form): string {
  const conditions = [
    form.service && `resource.service.name = ${quote(form.service)}`,
    form.operation && `name = ${quote(form.operation)}`,
    form.minDuration && `duration >= ${form.minDuration}`,
    form.errors && 'status = error',
  ].filter(Boolean);
  return conditions.length > 0 ? `{ ${conditions.join(' && ')} }` : '{}';
}

/** Names that continue the word before the caret, and where that word begins. */
export function completions(text: string, caret: number, names: string[]): { from: number; names: string[] } {
  const word = /[\w.:/-]*$/.exec(text.slice(0, caret))?.[0] ?? '';
  if (word === '') return { from: caret, names: [] };
  const lower = word.toLowerCase();
  const matching = names.filter((name) => name.toLowerCase().includes(lower) && name !== word);
  matching.sort((a, b) => Number(b.toLowerCase().startsWith(lower)) - Number(a.toLowerCase().startsWith(lower)) || a.length - b.length);
  return { from: caret - word.length, names: matching.slice(0, 8) };
}

/** The form's fields; the query in the address says them. */
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

/** The form as a query says it: what the form itself wrote is read back, the rest of a query stands in its line alone. */
export function formOf(query: string): Form {
  const text = (pattern: RegExp) => {
    const found = pattern.exec(query)?.[1];
    if (found === undefined) return '';
    try {
      return String(JSON.parse(found));
    } catch {
      return '';
    }
  };
  return {
    service: text(/\bresource\.service\.name = ("(?:[^"\\]|\\.)*")/),
    operation: text(/(?:^|[\s{(])name = ("(?:[^"\\]|\\.)*")/),
    minDuration: /(?:^|[\s{(])duration >= (\d+(?:ms|s))/.exec(query)?.[1] ?? '',
    errors: /(?:^|[\s{(])status = error\b/.test(query),
  };
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

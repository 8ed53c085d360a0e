import { useRef, useState } from 'react';
import { ApiError } from '../api/client';
import { completions } from '../model/query';

interface Properties {
  value: string;
  names: string[];
  error?: Error;
  submit: (query: string) => void;
}

/** A line of TraceQL with completion; errors stand under the place they are about. */
export function QueryLine({ value, names, error, submit }: Properties) {
  const [text, setText] = useState(value);
  const [caret, setCaret] = useState<number | null>(null);
  const [before, setBefore] = useState(value);
  const input = useRef<HTMLInputElement>(null);
  if (before !== value) {
    setBefore(value);
    setText(value);
  }
  const offered = caret === null ? { from: 0, names: [] } : completions(text, caret, names);
  const take = (name: string) => {
    const next = text.slice(0, offered.from) + name + text.slice(caret ?? text.length);
    setText(next);
    setCaret(null);
    input.current?.focus();
  };
  const place = error instanceof ApiError ? error.offset : undefined;
  return (
    <form
      className="query"
      onSubmit={(event) => {
        event.preventDefault();
        setCaret(null);
        submit(text);
      }}
    >
      <input
        ref={input}
        id="traceql"
        aria-label="TraceQL"
        autoComplete="off"
        spellCheck={false}
        value={text}
        placeholder='{ resource.service.name = "cart" && duration > 100ms }'
        onChange={(event) => {
          setText(event.target.value);
          setCaret(event.target.selectionStart);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Tab' && offered.names[0]) {
            event.preventDefault();
            take(offered.names[0]);
          }
          if (event.key === 'Escape') setCaret(null);
        }}
        onBlur={() => setTimeout(() => setCaret(null), 150)}
      />
      <button type="submit">Search</button>
      {offered.names.length > 0 && (
        <ul className="completions">
          {offered.names.map((name) => (
            <li key={name}>
              <button type="button" onMouseDown={() => take(name)}>{name}</button>
            </li>
          ))}
        </ul>
      )}
      {error && (
        <div className="query-error" role="alert">
          {place !== undefined && <pre>{`${' '.repeat(Math.min(place, 400))}^`}</pre>}
          {error.message}
          {error instanceof ApiError && error.hint && <span className="muted"> {error.hint}</span>}
        </div>
      )}
    </form>
  );
}

import { useEffect, useState } from 'react';

/** Copies a text, and says that it did. */
export function Copy({ text, children = 'Copy', className = 'quiet' }: { text: string | (() => string); children?: React.ReactNode; className?: string }) {
  const [isDone, setDone] = useState(false);
  useEffect(() => {
    if (!isDone) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [isDone]);
  const copy = () => {
    void navigator.clipboard.writeText(typeof text === 'string' ? text : text()).then(() => setDone(true));
  };
  return (
    <button type="button" className={className} onClick={copy} aria-live="polite">
      {isDone ? 'Copied' : children}
    </button>
  );
}

import { StrictMode, useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { status } from '../api/client';
import { useLoaded } from '../api/load';
import { go, usePlace } from '../base/location';
import { Search } from '../views/Search';
import { TracePage } from '../views/TracePage';
import './style.css';

function App() {
  const place = usePlace();
  const trace = /^\/trace\/([0-9a-fA-F]{1,32})$/.exec(place.path)?.[1];
  const server = useLoaded('status', status);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === '/' && !isTyping) {
        event.preventDefault();
        document.querySelector<HTMLInputElement>('#traceql, .tools input')?.focus();
      }
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, []);
  return (
    <>
      <nav>
        <a
          href="/"
          className="brand"
          onClick={(event) => {
            event.preventDefault();
            go('/');
          }}
        >
          Spanwise
        </a>
        <span className="muted">{server.value && `${server.value.spans_stored.toLocaleString()} spans stored · ${server.value.version}`}</span>
        <span className="muted keys">/ search · ↑↓ spans · ←→ fold · Esc close</span>
      </nav>
      {trace ? <TracePage key={trace} id={trace} place={place} /> : <Search place={place} />}
    </>
  );
}

const root = document.getElementById('root');
if (root) createRoot(root).render(<StrictMode><App /></StrictMode>);

import { useEffect, useRef } from 'react';

const KEYS: [string, [string, string][]][] = [
  ['Everywhere', [['/', 'search, or find in the trace'], ['Ctrl K', 'go to a trace, a service, a page'], ['?', 'these keys'], ['g o s e m y', 'g, then: overview, search, explore, map, system'], ['Esc', 'close']]],
  ['Trace', [['j k ↓ ↑', 'next, previous row'], ['← →', 'collapse, expand; out, in'], ['n N', 'next, previous of what was found'], ['w s', 'zoom in, out'], ['a d', 'earlier, later'], ['0', 'whole trace'], ['[ ]', 'previous, next error'], ['c', 'rows of the critical path alone'], ['f', 'flame graph'], ['t', 'table of totals'], ['l', 'events as rows'], ['v', 'a typical trace as outlines behind the bars'], ['x', 'compare with another trace'], ['h', 'clocks of hosts set right, or as written']]],
  ['Heatmap', [['← → ↑ ↓', 'next cell'], ['Enter', 'an example of it'], ['Shift ← → ↑ ↓', 'choose a box, and ask why'], ['Esc', 'no box']]],
];

export function KeyHelp({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-label="Keys" onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <header>
        <h2>Keys</h2>
        <button type="button" className="quiet" onClick={close} autoFocus>Close</button>
      </header>
      <div>
        {KEYS.map(([title, keys]) => (
          <div key={title} className="keys">
            <h3>{title}</h3>
            {keys.map(([key, what]) => <div key={key}><span>{what}</span><span>{key.split(' ').map((one) => (one === '/' && key !== '/' ? ' / ' : <kbd key={one} style={{ marginLeft: 3 }}>{one}</kbd>))}</span></div>)}
          </div>
        ))}
      </div>
    </dialog>
  );
}

import { useEffect, useRef, useState } from 'react';

export interface Command {
  name: string;
  hint?: string;
  run: () => void;
}

interface Properties {
  commands: (text: string) => Command[];
  close: () => void;
}

/** Ctrl-K: everywhere one may go, by typing. */
export function Palette({ commands, close }: Properties) {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const wanted = text.trim().toLowerCase();
  const found = commands(text.trim()).filter((command) => wanted === '' || command.hint === 'trace id' || wanted.split(/\s+/).every((word) => command.name.toLowerCase().includes(word))).slice(0, 40);
  const chosen = Math.min(at, found.length - 1);
  const run = (command?: Command) => {
    if (!command) return;
    close();
    command.run();
  };
  return (
    <dialog ref={dialog} className="palette" aria-label="Go to" onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <input
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={found[chosen] ? `palette-${chosen}` : undefined}
        aria-label="Trace id, service, entry point or command"
        placeholder="trace id, service, entry point or command"
        value={text}
        autoFocus
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (step !== undefined) {
            event.preventDefault();
            setAt(Math.max(0, Math.min(found.length - 1, chosen + step)));
          }
          if (event.key === 'Enter') run(found[chosen]);
        }}
      />
      <ul id="palette-list" role="listbox" aria-label="Matches">
        {found.map((command, number) => (
          <li key={`${command.name} ${command.hint}`} id={`palette-${number}`} role="option" aria-selected={number === chosen} onClick={() => run(command)} onMouseMove={() => setAt(number)}>
            <span>{command.name}</span>
            {command.hint && <span className="muted">{command.hint}</span>}
          </li>
        ))}
        {found.length === 0 && <li aria-disabled="true" role="option" aria-selected="false" className="muted">nothing of that name</li>}
      </ul>
    </dialog>
  );
}

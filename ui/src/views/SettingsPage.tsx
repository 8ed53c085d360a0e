import { useState } from 'react';
import { mutes, unmute } from '../api/client';
import { useLoaded } from '../api/load';
import { applyTheme, chosenTheme } from '../base/theme';
import { Ghost } from '../widgets/States';

const THEMES = [['system', 'as the system'], ['light', 'light'], ['dark', 'dark']] as const;

/** What the reader chose: how the page looks, and which findings are muted. */
export function SettingsPage() {
  const [theme, setTheme] = useState(chosenTheme());
  const [changes, setChanges] = useState(0);
  const [failure, setFailure] = useState<Error | null>(null);
  const muted = useLoaded(`mutes ${changes}`, mutes);
  return (
    <main>
      <div className="page">
        <div className="page-head"><h1>Settings</h1></div>
        <section className="section" aria-label="Appearance">
          <header><h2>Appearance</h2><span className="muted small">kept in this browser</span></header>
          <div className="segmented" role="group" aria-label="Theme">
            {THEMES.map(([name, text]) => (
              <button
                key={name}
                type="button"
                aria-pressed={theme === name}
                onClick={() => {
                  applyTheme(name);
                  setTheme(name);
                }}
              >
                {text}
              </button>
            ))}
          </div>
        </section>
        <section className="section" aria-label="Muted findings">
          <header><h2>Muted findings</h2><span className="muted small">kept in the data directory, for everybody</span></header>
          {(failure ?? muted.error) && <p className="error" role="alert">{(failure ?? muted.error)?.message}</p>}
          {!muted.value && !muted.error && <Ghost lines={3} />}
          {muted.value?.length === 0 && <p className="soft">None. A finding is muted on the overview, with a reason and an end.</p>}
          {muted.value && muted.value.length > 0 && (
            <table className="lines" aria-label="Muted findings">
              <thead><tr><th>Finding</th><th>Reason</th><th>Until</th><th><span className="unseen">Unmute</span></th></tr></thead>
              <tbody>
                {muted.value.map((mute) => (
                  <tr key={mute.finding}>
                    <td className="mono">{mute.finding}</td>
                    <td>{mute.reason}</td>
                    <td>{mute.until ?? 'unmuted'}</td>
                    <td><button type="button" className="quiet" onClick={() => { unmute(mute.finding).then(() => setChanges((before) => before + 1), setFailure); }}>Unmute</button></td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </section>
      </div>
    </main>
  );
}

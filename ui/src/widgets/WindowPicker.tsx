import { go, type Place, withParameters } from '../base/location';
import { WINDOWS, windowOf } from '../model/window';

/** Which traces the page is about: by when they started. */
export function WindowPicker({ place }: { place: Place }) {
  const window = windowOf(place);
  return (
    <select
      aria-label="Window"
      value={window.name}
      onChange={(event) => go(withParameters(place, { window: event.target.value, from: null, to: null }))}
    >
      {window.name === 'custom' && <option value="custom">{window.label}</option>}
      {WINDOWS.map(([key, label]) => <option key={key} value={key}>{label}</option>)}
    </select>
  );
}

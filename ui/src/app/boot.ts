// The first that runs: a trace that was opened by its address is asked for before the page's own parts have come.
import { readingOf, traceIn } from '../model/traceState';
import { expectTrace } from '../views/trace/openTrace';
import './tokens.css';
import './style.css';
import './overview.css';
import './search.css';
import './trace.css';
import './pictures.css';

const { pathname: path, search } = window.location;
const wanted = traceIn(path);
if (wanted) {
  expectTrace(wanted, readingOf({ path, parameters: new URLSearchParams(search) }));
  void import('../views/trace/TracePage');
}
void import('./main');

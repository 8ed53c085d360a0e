import { lazy, StrictMode, Suspense, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { services } from '../api/client';
import { useLoaded } from '../api/load';
import { assignColours } from '../base/colour';
import { useKeys } from '../base/keys';
import { address, go, here, type Place, usePlace } from '../base/location';
import { applyTheme, chosenTheme, useTheme } from '../base/theme';
import { traceIn } from '../model/traceState';
import { windowParameters } from '../model/window';
import { Overview } from '../views/Overview';
import { KeyHelp } from '../widgets/KeyHelp';
import { Link } from '../widgets/Link';
import { type Command, Palette } from '../widgets/Palette';
import { Ghost } from '../widgets/States';

const Search = lazy(() => import('../views/Search').then((part) => ({ default: part.Search })));
const TracePage = lazy(() => import('../views/trace/TracePage').then((part) => ({ default: part.TracePage })));
const Explore = lazy(() => import('../views/Explore').then((part) => ({ default: part.Explore })));
const MapPage = lazy(() => import('../views/MapPage').then((part) => ({ default: part.MapPage })));
const EntryPage = lazy(() => import('../views/EntryPage').then((part) => ({ default: part.EntryPage })));
const ServicePage = lazy(() => import('../views/ServicePage').then((part) => ({ default: part.ServicePage })));
const SettingsPage = lazy(() => import('../views/SettingsPage').then((part) => ({ default: part.SettingsPage })));
const SystemPage = lazy(() => import('../views/SystemPage').then((part) => ({ default: part.SystemPage })));

const PAGES: [string, string, string][] = [['/', 'Overview', 'o'], ['/search', 'Search', 's'], ['/explore', 'Explore', 'e'], ['/map', 'Map', 'm'], ['/system', 'System', 'y']];

function View({ place }: { place: Place }) {
  const trace = traceIn(place.path);
  const entry = /^\/entry\/([^/]+)\/([^/]+)$/.exec(place.path);
  const service = /^\/service\/([^/]+)$/.exec(place.path)?.[1];
  if (service) return <ServicePage key={place.path} name={decode(service)} place={place} />;
  if (trace) return <TracePage key={trace} id={trace} place={place} />;
  if (entry?.[1] && entry[2]) return <EntryPage key={place.path} service={decode(entry[1])} operation={decode(entry[2])} place={place} />;
  switch (place.path) {
    case '/':
      return <Overview place={place} />;
    case '/search':
      return <Search place={place} />;
    case '/explore':
      return <Explore place={place} />;
    case '/map':
      return <MapPage place={place} />;
    case '/settings':
      return <SettingsPage />;
    case '/system':
      return <SystemPage />;
    default:
      return <main><div className="state"><h2>No such page</h2><p><Link href="/">Overview</Link></p></div></main>;
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function App() {
  const place = usePlace();
  const theme = useTheme();
  const known = useLoaded('services', services);
  const [isPalette, setPalette] = useState(false);
  const [isHelp, setHelp] = useState(false);
  // Colours are given before anything is drawn with them.
  const names = known.value?.map((service) => service.name).join('\n');
  const assigned = useRef<string | undefined>(undefined);
  if (names !== undefined && assigned.current !== names) {
    assigned.current = names;
    assignColours(names.split('\n'));
  }
  const waitsForG = useRef(0);
  useEffect(() => {
    document.title = titleOf(place);
  }, [place.path]);
  const page = (path: string) => go(address(path, windowParameters(here())));
  useKeys({
    'Ctrl+K': () => setPalette(true),
    '?': () => setHelp(true),
    '/': () => {
      const field = document.querySelector<HTMLInputElement>('#find, #traceql');
      if (field) field.focus();
      else page('/search');
    },
    g: () => {
      waitsForG.current = Date.now();
    },
    ...Object.fromEntries(PAGES.filter(([, , key]) => key !== 's').map(([path, , key]) => [key, () => Date.now() - waitsForG.current < 1000 && page(path)])),
  });
  // `s` alone zooms a trace; after `g` it means search.
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === 's' && Date.now() - waitsForG.current < 1000) {
        event.stopPropagation();
        event.preventDefault();
        waitsForG.current = 0;
        page('/search');
      }
    };
    window.addEventListener('keydown', onKey, true);
    return () => window.removeEventListener('keydown', onKey, true);
  }, []);
  const commands = (text: string): Command[] => [
    ...(/^[0-9a-fA-F]{8,32}$/.test(text) ? [{ name: `Trace ${text}`, hint: 'trace id', run: () => go(`/trace/${text.toLowerCase()}`) }] : []),
    ...PAGES.map(([path, name]) => ({ name, hint: 'page', run: () => page(path) })),
    ...(['system', 'light', 'dark'] as const).filter((one) => one !== chosenTheme()).map((one) => ({ name: `Theme: ${one}`, hint: 'appearance', run: () => applyTheme(one) })),
    { name: 'Settings', hint: 'page', run: () => go('/settings') },
    { name: 'Keys', hint: '?', run: () => setHelp(true) },
    ...(known.value ?? []).flatMap((service) => [
      { name: service.name, hint: 'service', run: () => go(address(`/service/${encodeURIComponent(service.name)}`, windowParameters(here()))) },
      { name: service.name, hint: 'traces of the service', run: () => go(address('/search', { ...windowParameters(here()), q: `{ resource.service.name = ${JSON.stringify(service.name)} }` })) },
      ...service.operations.slice(0, 50).map((operation) => ({
        name: `${service.name} ${operation}`,
        hint: 'traces of the operation',
        run: () => go(address('/search', { ...windowParameters(here()), q: `{ resource.service.name = ${JSON.stringify(service.name)} && name = ${JSON.stringify(operation)} }` })),
      })),
    ]),
  ];
  return (
    <>
      <header className="bar-top">
        <Link href="/" className="brand">
          <svg viewBox="0 0 20 20" aria-hidden="true">
            <rect x="1" y="3" width="18" height="3.4" rx="1.2" fill="currentColor" />
            <rect x="4" y="8.3" width="9" height="3.4" rx="1.2" fill="var(--accent)" />
            <rect x="10" y="13.6" width="8" height="3.4" rx="1.2" fill="currentColor" opacity="0.45" />
          </svg>
          Spanwise
        </Link>
        <nav aria-label="Pages">
          {PAGES.map(([path, name]) => <Link key={path} href={address(path, windowParameters(place))} aria-current={place.path === path ? 'page' : undefined}>{name}</Link>)}
        </nav>
        <button type="button" className="jump" onClick={() => setPalette(true)}><span>Go to trace, service…</span><kbd>Ctrl K</kbd></button>
        <button type="button" className="quiet" aria-label="Keys" title="Keys" onClick={() => setHelp(true)}>?</button>
      </header>
      <Suspense fallback={<main><div className="page"><Ghost lines={8} /></div></main>}>
        {known.isLoading && !known.value && !known.error ? <main><div className="page"><Ghost lines={8} /></div></main> : <View key={theme} place={place} />}
      </Suspense>
      {isPalette && <Palette commands={commands} close={() => setPalette(false)} />}
      {isHelp && <KeyHelp close={() => setHelp(false)} />}
    </>
  );
}

function titleOf(place: Place): string {
  const page = PAGES.find(([path]) => path === place.path)?.[1];
  if (place.path === '/') return 'Spanwise';
  return `${page ?? decode(place.path.slice(1))} · Spanwise`;
}

applyTheme(chosenTheme());
const root = document.getElementById('root');
if (root) createRoot(root).render(<StrictMode><App /></StrictMode>);

import { serviceColour } from '../base/colour';

export function Service({ name, children }: { name: string; children?: React.ReactNode }) {
  return (
    <span className="service">
      <i style={{ background: serviceColour(name) }} aria-hidden="true" />
      {name}
      {children}
    </span>
  );
}

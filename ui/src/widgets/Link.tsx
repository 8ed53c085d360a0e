import type { AnchorHTMLAttributes } from 'react';
import { go } from '../base/location';

/** A link inside the page: opens here, or wherever the reader's keys say. */
export function Link({ href, ...others }: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }) {
  return (
    <a
      href={href}
      {...others}
      onClick={(event) => {
        others.onClick?.(event);
        if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        go(href);
      }}
    />
  );
}

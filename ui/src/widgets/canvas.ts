/** A canvas as wide as it stands on the page, sharp on every screen; drawing is in CSS pixels. */
export function canvasOf(element: HTMLCanvasElement, height: number): { context: CanvasRenderingContext2D; width: number } | null {
  const context = element.getContext('2d');
  if (!context) return null;
  const width = element.clientWidth;
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (element.width !== wide || element.height !== high) {
    element.width = wide;
    element.height = high;
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.globalAlpha = 1;
  context.clearRect(0, 0, width, height);
  return { context, width };
}

const hatches = new Map<string, CanvasPattern | null>();

/** Slanted lines: waiting, or the wire. */
export function hatch(context: CanvasRenderingContext2D, colour: string): CanvasPattern | string {
  let pattern = hatches.get(colour);
  if (pattern === undefined) {
    const tile = document.createElement('canvas');
    tile.width = 6;
    tile.height = 6;
    const pen = tile.getContext('2d');
    if (pen) {
      pen.strokeStyle = colour;
      pen.lineWidth = 1.6;
      pen.beginPath();
      for (const shift of [-6, 0, 6]) {
        pen.moveTo(shift - 1, 7);
        pen.lineTo(shift + 7, -1);
      }
      pen.stroke();
    }
    pattern = context.createPattern(tile, 'repeat');
    hatches.set(colour, pattern);
  }
  return pattern ?? colour;
}

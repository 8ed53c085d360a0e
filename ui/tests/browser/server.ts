import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { shop, type World } from './world';

const PROGRAM = process.env.SPANWISE ?? '';

/** The real program, on free ports, with a store of its own. */
export class Server {
  private constructor(private readonly child: ChildProcess, private readonly dir: string, private readonly ports: Record<string, number>) {}

  static async start(): Promise<Server> {
    if (!PROGRAM) throw new Error('SPANWISE must name the program: scripts/browser.sh sets it');
    const dir = mkdtempSync(join(tmpdir(), 'spanwise-browser-'));
    const child = spawn(PROGRAM, ['serve', '--listen', '127.0.0.1:0', '--print-ports', '--data-dir', dir], { stdio: ['ignore', 'pipe', 'ignore'] });
    const lines = createInterface({ input: child.stdout });
    const line = await new Promise<string>((resolve, reject) => {
      lines.once('line', resolve);
      child.once('exit', (code) => reject(new Error(`spanwise ended with ${code} before it was ready`)));
    });
    return new Server(child, dir, JSON.parse(line).ports);
  }

  /** With 240 requests of the shop, the first a while ago: `start`, in milliseconds. */
  static async ofShop(): Promise<{ server: Server; start: number; cart: string; failed: string }> {
    const server = await Server.start();
    const start = Date.now() - 58 * 60_000;
    const { world, cart, failed } = shop(start, 240);
    await server.send(world);
    return { server, start, cart, failed };
  }

  get page(): string {
    return `http://127.0.0.1:${this.ports.http}`;
  }

  async send(world: World): Promise<void> {
    for (const request of world.requests()) {
      const response = await fetch(`http://127.0.0.1:${this.ports.otlp_http}/v1/traces`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) });
      if (!response.ok) throw new Error(`spans were refused: ${response.status} ${await response.text()}`);
    }
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGTERM');
    await ended;
    rmSync(this.dir, { recursive: true, force: true });
  }
}

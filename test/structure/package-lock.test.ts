/** `npm ci` has to work on a bare machine, whatever its registry. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './source-files.ts';

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const text = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
const { packages } = JSON.parse(text) as { packages: Readonly<Record<string, LockedPackage>> };

describe('package-lock.json', () => {
  it('names no server: whoever installs takes their own registry', () => {
    expect(text.split('\n').filter((line) => /"resolved":|https?:\/\/[^"]*\.tgz/.test(line))).toEqual([]);
  });

  it('is complete: `npm ci` refuses a lock without the packages of other platforms', () => {
    const missing = Object.entries(packages).flatMap(([place, locked]) =>
      Object.keys({ ...locked.dependencies, ...locked.optionalDependencies, ...locked.devDependencies })
        .filter((name) => !isLocked(place, name))
        .map((name) => `${place} needs ${name}`),
    );
    expect(missing).toEqual([]);
  });
});

/** Whether Node would find the package from there: beside it, or in a `node_modules` further up. */
function isLocked(place: string, name: string): boolean {
  if (`${place === '' ? '' : `${place}/`}node_modules/${name}` in packages) return true;
  if (place === '') return false;
  return isLocked(place.slice(0, Math.max(0, place.lastIndexOf('node_modules/') - 1)), name);
}

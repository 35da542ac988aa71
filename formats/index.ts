/** The built-in formats, listed once. */
import { FormatRegistry } from '../src/image/registry.ts';
import { qcow2Driver } from './qcow2/driver.ts';
import { rawDriver } from './raw/driver.ts';
import { vvdDriver } from './vvd/driver.ts';

export { qcow2Driver, rawDriver, vvdDriver };

/** Every format this release knows; the first that creates is the default. */
export const formats: FormatRegistry = new FormatRegistry([vvdDriver, qcow2Driver, rawDriver]);

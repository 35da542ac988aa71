/** Looking for devices, for the verbs that list them. */
import { readConfiguration } from '../storage/configuration.ts';
import { type FoundDevice, findResource, scanResource } from '../storage/resource.ts';
import type { Context } from './verb.ts';

/** The devices of the resources named; of all of them when none is. */
export async function scanNamed(context: Context, names: readonly string[]): Promise<FoundDevice[]> {
  const { environment } = context;
  const configuration = await readConfiguration(environment);
  const resources =
    names.length === 0 ? configuration.resources : names.map((name) => findResource(configuration, name));
  const found: FoundDevice[] = [];
  for (const resource of resources) found.push(...(await scanResource(resource, environment)));
  return found;
}

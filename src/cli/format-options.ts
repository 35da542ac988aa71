/** `-o key=value,…`: reading it by a driver's option list, and `-o help`. */
import parseArguments from 'yargs-parser';
import { VimgError } from '../base/errors.ts';
import { parseSize } from '../base/size.ts';
import type { FormatDriver, OptionSpec, OptionValues } from '../image/format-driver.ts';

/** What `-o` may say besides the driver's own options; the verbs take these out. */
export interface CommonOptions {
  readonly size?: number;
  readonly backingFile?: string;
  readonly backingFormat?: string;
}

export interface ParsedFormatOptions {
  readonly common: CommonOptions;
  /** The driver's own options, as given. */
  readonly values: OptionValues;
}

const COMMON_SPECS: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: 'Image format of the base image' },
];

/** Whether `-o help` (or `-o ?`) is among the given texts. */
export function asksForOptionHelp(texts: readonly string[]): boolean {
  return texts.some((text) => splitPairs(text).some((pair) => pair === 'help' || pair === '?'));
}

/**
 * Reads `-o` texts: pairs separated by commas, `,,` standing for a comma; a later pair wins; a bare name means `on`.
 *
 * @throws VimgError `USAGE` for an option that the format has not, or a value that it does not take
 */
export function parseFormatOptions(texts: readonly string[], driver: FormatDriver): ParsedFormatOptions {
  const specs = optionSpecs(driver);
  const values: Record<string, string | number | boolean> = {};
  for (const [name, text] of readPairs(texts)) {
    const spec = specs.find((candidate) => candidate.name === name);
    if (!spec) {
      const known = specs.map((candidate) => candidate.name).join(', ');
      throw new VimgError('USAGE', `Invalid parameter '${name}'`, { hint: `${driver.name} takes: ${known}` });
    }
    values[name] = readValue(spec, text);
  }
  const { size, backing_file: backingFile, backing_fmt: backingFormat, ...own } = values;
  return {
    common: {
      ...(size === undefined ? {} : { size: size as number }),
      ...(backingFile === undefined ? {} : { backingFile: backingFile as string }),
      ...(backingFormat === undefined ? {} : { backingFormat: backingFormat as string }),
    },
    values: own,
  };
}

/** The text of `-o help`. */
export function optionHelp(driver: FormatDriver): string {
  const rows = [...optionSpecs(driver)].sort((a, b) => (a.name < b.name ? -1 : 1)).map(helpRow);
  return `Supported ${driver.name} options:\n${rows.join('\n')}\n`;
}

function optionSpecs(driver: FormatDriver): OptionSpec[] {
  const common = COMMON_SPECS.filter((spec) => driver.can.backing || !spec.name.startsWith('backing_'));
  return [
    ...driver.createOptions,
    ...common.filter((spec) => !driver.createOptions.some((o) => o.name === spec.name)),
  ];
}

const TYPE_TEXT: Readonly<Record<OptionSpec['type'], string>> = {
  size: '<size>',
  string: '<str>',
  boolean: '<bool (on/off)>',
  choice: '<str>',
  number: '<num>',
};

function helpRow(spec: OptionSpec): string {
  const choices = spec.choices ? ` (${spec.choices.join(', ')})` : '';
  const preset = spec.default === undefined ? '' : ` [${spec.default}]`;
  return `  ${`${spec.name}=${TYPE_TEXT[spec.type]}`.padEnd(22)} - ${spec.help}${choices}${preset}`;
}

/**
 * The pairs of all texts, read with yargs-parser: it is given one `--key==value` a pair. The second `=` keeps it from
 * taking quotes off a value, which may be a file name.
 */
function readPairs(texts: readonly string[]): [string, string][] {
  const pairs = texts.flatMap(splitPairs).filter((pair) => pair !== '');
  const names = pairs.map((pair) => pair.split('=', 1)[0] as string);
  const parsed = parseArguments(
    pairs.map((pair) => (pair.includes('=') ? `--${pair.replace('=', '==')}` : `--${pair}==on`)),
    {
      string: names,
      configuration: {
        'camel-case-expansion': false,
        'dot-notation': false,
        'parse-numbers': false,
        'boolean-negation': false,
        'duplicate-arguments-array': false,
      },
    },
  );
  return [...new Set(names)].map((name) => [name, String(parsed[name] ?? '=').slice(1)]);
}

function splitPairs(text: string): string[] {
  const comma = '\0'; // cannot occur in an argument
  return text
    .replaceAll(',,', comma)
    .split(',')
    .map((pair) => pair.replaceAll(comma, ','));
}

function readValue(spec: OptionSpec, text: string): string | number | boolean {
  switch (spec.type) {
    case 'size':
      return parseSize(text);
    case 'boolean':
      if (/^(on|yes|true|y)$/.test(text)) return true;
      if (/^(off|no|false|n)$/.test(text)) return false;
      throw new VimgError('USAGE', `Parameter '${spec.name}' expects 'on' or 'off'`);
    case 'number':
      if (/^[0-9]+$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
      throw new VimgError('USAGE', `Parameter '${spec.name}' expects a number`);
    case 'choice':
      if (spec.choices?.includes(text)) return text;
      throw new VimgError('USAGE', `Parameter '${spec.name}' does not accept value '${text}'`, {
        hint: `it takes ${(spec.choices ?? []).join(', ')}`,
      });
    case 'string':
      return text;
  }
}

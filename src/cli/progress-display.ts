/**
 * Progress on the command line. On a terminal a bar, which appears when work lasts; with `--progress=jsonl` one JSON
 * object a second on stderr; into a pipe a plain line now and then, never an escape code. Called as qemu-img, `-p`
 * prints what scripts written for that tool read: `    (12.34/100%)` and a carriage return, on stdout.
 */
import type { SingleBar } from 'cli-progress';
import { formatSize } from '../base/size.ts';
import type { OnProgress, ProgressReport } from '../job/progress.ts';
import { usage } from './command-line.ts';
import type { Context } from './verb.ts';

export interface ProgressOptions {
  /** `-p` */
  readonly p?: boolean;
  /** `--progress=bar|jsonl|none` */
  readonly progress?: string;
  readonly quiet?: boolean;
}

export interface ProgressDisplay {
  readonly onProgress: OnProgress | undefined;
  /** Clears the bar. Call it before anything else is printed, also after a failure. */
  stop(): void;
}

/** A bar appears when work lasts longer than this. */
const BAR_AFTER_SECONDS = 0.7;
const LINE_EVERY_SECONDS = 1;

/** The display that the options and the terminal ask for. @throws VimgError `USAGE` for an unknown style */
export async function progressDisplay(context: Context, options: ProgressOptions): Promise<ProgressDisplay> {
  const style = options.progress;
  if (style !== undefined && !['bar', 'jsonl', 'none'].includes(style)) {
    throw usage(`Invalid progress style '${style}'`, 'it is bar, jsonl or none');
  }
  if (options.quiet || style === 'none') return SILENT;
  if (style === 'jsonl') return jsonLines(context);
  const asked = options.p === true || style === 'bar';
  if (context.likeQemuImg) return asked ? qemuLine(context) : SILENT;
  if (context.terminal.interactive) return bar(context);
  return asked ? plainLines(context) : SILENT;
}

const SILENT: ProgressDisplay = { onProgress: undefined, stop: () => undefined };

function jsonLines(context: Context): ProgressDisplay {
  const onProgress = paced((report) => context.terminal.note(JSON.stringify(report)));
  return { onProgress, stop: () => undefined };
}

function plainLines(context: Context): ProgressDisplay {
  const onProgress = paced((report) => context.terminal.note(progressText(report)));
  return { onProgress, stop: () => undefined };
}

/** Passes on the first report of each phase, and one a second. */
function paced(print: OnProgress): OnProgress {
  let last: ProgressReport | undefined;
  return (report) => {
    const due = last === undefined || report.secondsElapsed - last.secondsElapsed >= LINE_EVERY_SECONDS;
    if (!due && report.phase === last?.phase) return;
    last = report;
    print(report);
  };
}

function qemuLine(context: Context): ProgressDisplay {
  let shown = '';
  const print = (fraction: number): void => {
    const text = `    (${(fraction * 100).toFixed(2)}/100%)\r`;
    if (text === shown) return;
    shown = text;
    context.terminal.write(text);
    context.terminal.flush();
  };
  return {
    onProgress: (report) => print(report.fraction),
    stop: () => context.terminal.write('\n'),
  };
}

async function bar(context: Context): Promise<ProgressDisplay> {
  const { default: progress } = await import('cli-progress');
  let shown: SingleBar | undefined;
  return {
    onProgress: (report) => {
      if (shown === undefined && report.secondsElapsed < BAR_AFTER_SECONDS) return;
      if (shown === undefined) {
        shown = new progress.SingleBar({
          format: '{bar} {text}',
          barsize: 24,
          barCompleteChar: '█',
          barIncompleteChar: '░',
          hideCursor: true,
          clearOnComplete: true,
          linewrap: false,
          stream: process.stderr,
        });
        context.terminal.flush();
        shown.start(1, 0, { text: '' });
      }
      shown.update(report.fraction, { text: progressText(report) });
    },
    stop: () => shown?.stop(),
  };
}

/** One line: how far, how fast, how long still. */
export function progressText(report: ProgressReport): string {
  const percent = `${Math.floor(report.fraction * 100)}%`;
  if (report.phase === 'mapping') return 'looking at what is allocated';
  if (report.phase === 'sealing') return `${percent} writing checksums`;
  if (report.phase === 'flushing') return `${percent} flushing to the disk`;
  const amount = `${formatSize(report.bytesDone)} of ${formatSize(report.bytesTotal)}`;
  const rate = `${formatSize(Math.round(report.bytesPerSecond))}/s`;
  const left = report.secondsLeft === undefined ? '' : `, ${duration(report.secondsLeft)} left`;
  return `${percent} ${report.phase} ${amount}, ${rate}${left}`;
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.ceil(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.ceil((seconds % 3600) / 60)} min`;
}

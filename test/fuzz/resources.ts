/** What one bad image may cost: 2 s of CPU time and 1 GiB of memory, whatever its format. */

const CPU_MS_MAX = 2000;
const MEMORY_MAX = 1024 * 1024 * 1024;

/** Starts counting. @returns says what was too much since then, or nothing */
export function countResources(): () => string[] {
  const cpuBefore = process.cpuUsage();
  const memoryBefore = process.resourceUsage().maxRSS;
  return () => {
    const { user, system } = process.cpuUsage(cpuBefore);
    const cpuMs = (user + system) / 1000;
    const memory = (process.resourceUsage().maxRSS - memoryBefore) * 1024;
    return [
      ...(cpuMs > CPU_MS_MAX ? [`it took ${cpuMs} ms of CPU time`] : []),
      ...(memory > MEMORY_MAX ? [`it took ${memory} bytes of memory`] : []),
    ];
  };
}

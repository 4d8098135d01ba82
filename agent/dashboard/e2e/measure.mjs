/** How the page feels: times between frames, and how long input waits. */

/**
 * Milliseconds. People notice from about 100 on; drawing without a graphics card on a shared machine is given some room, and one moment in
 * which others had the processor.
 */
export const BOUNDS = { p95: 150, input: 150, slowest: 1000 };

/**
 * @typedef {object} Felt
 * @property {number} frames drawn
 * @property {number} p95 milliseconds between frames, 95 of 100 are below
 * @property {number} worst the longest time between two frames
 * @property {number} input milliseconds from an input to its handler, 95 of 100 are below
 * @property {number} slowest the longest of these
 * @property {number} inputs that were measured
 */

/** @param {import("playwright-core").Page} page */
export async function begin(page) {
  await page.evaluate(() => {
    const felt = { gaps: /** @type {number[]} */ ([]), delays: /** @type {number[]} */ ([]), stop: false };
    Object.assign(window, { __felt: felt });
    let last = performance.now();
    /** @param {number} now */
    const frame = (now) => {
      felt.gaps.push(now - last);
      last = now;
      if (!felt.stop) requestAnimationFrame(frame);
    };
    requestAnimationFrame((now) => {
      last = now;
      requestAnimationFrame(frame);
    });
    for (const kind of ["keydown", "pointerdown"]) {
      addEventListener(kind, (e) => felt.delays.push(performance.now() - e.timeStamp), { capture: true });
    }
  });
}

/**
 * @param {import("playwright-core").Page} page
 * @returns {Promise<Felt>}
 */
export async function end(page) {
  return page.evaluate(() => {
    const felt = /** @type {{ gaps: number[], delays: number[], stop: boolean }} */ (/** @type {any} */ (window).__felt);
    felt.stop = true;
    const gaps = felt.gaps.slice().sort((a, b) => a - b);
    const delays = felt.delays.slice().sort((a, b) => a - b);
    return {
      frames: gaps.length,
      p95: gaps[Math.floor(gaps.length * 0.95)] ?? Infinity,
      worst: gaps.at(-1) ?? Infinity,
      input: delays[Math.floor(delays.length * 0.95)] ?? 0,
      slowest: delays.at(-1) ?? 0,
      inputs: felt.delays.length,
    };
  });
}

/** @param {Felt} f */
export function words(f) {
  return `${f.frames} frames, 95% within ${f.p95.toFixed(0)} ms, the longest ${f.worst.toFixed(0)} ms; of ${f.inputs} inputs 95% waited at most ${f.input.toFixed(0)} ms, the slowest ${f.slowest.toFixed(0)} ms`;
}

/**
 * Whether a page that felt like this is usable.
 * @param {Felt} f
 */
export function usable(f) {
  return f.p95 <= BOUNDS.p95 && f.input <= BOUNDS.input && f.slowest <= BOUNDS.slowest && f.inputs > 10;
}

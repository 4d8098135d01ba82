/** The browser of the tests: Debian's Chromium, without a profile and without a word to the outside. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];

/** @typedef {{ width: number, height: number }} Size */

/** @type {Size} */
export const DESKTOP = { width: 1440, height: 900 };
/** @type {Size} */
export const PHONE = { width: 390, height: 844 };

/**
 * Opens a browser, runs `work` with it, and leaves nothing behind.
 * @template T
 * @param {(context: import("playwright-core").BrowserContext) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function browse(work) {
  const profile = await mkdtemp(join(tmpdir(), "weir-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env["WEIR_CHROMIUM"] ?? "/usr/bin/chromium",
    args: FLAGS,
    viewport: DESKTOP,
    colorScheme: "dark",
    reducedMotion: "reduce",
    acceptDownloads: true,
  });
  try {
    return await work(context);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

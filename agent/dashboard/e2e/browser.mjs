/** The browser of the tests: Debian's Chromium, with a profile of its own and without a word to the outside. */
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
 * @param {(browser: import("playwright-core").Browser) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function browse(work) {
  const browser = await chromium.launch({ executablePath: process.env["WEIR_CHROMIUM"] ?? "/usr/bin/chromium", args: FLAGS });
  try {
    return await work(browser);
  } finally {
    await browser.close();
  }
}

/**
 * A window of somebody who is not logged in yet.
 * @param {import("playwright-core").Browser} browser
 */
export async function visitor(browser) {
  const context = await browser.newContext({ viewport: DESKTOP, colorScheme: "dark", reducedMotion: "reduce" });
  return context.newPage();
}

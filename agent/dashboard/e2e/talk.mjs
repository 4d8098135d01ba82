/** How the script speaks with the lab, and with the page. */
import { createInterface } from "node:readline";

/** @typedef {import("playwright-core").Page} Page */

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export const out = (/** @type {object} */ what) => process.stdout.write(`${JSON.stringify(what)}\n`);
export const heading = (/** @type {string} */ text) => out({ heading: text });
export const point = (/** @type {string} */ what, /** @type {boolean} */ good, /** @type {string} */ result) => out({ point: { what, good, result } });

/**
 * Has the lab do something.
 * @param {string} what
 * @param {object} [of]
 * @returns {Promise<any>}
 */
export async function want(what, of = {}) {
  out({ do: what, ...of });
  const { value, done } = await lines.next();
  if (done === true) throw new Error("the lab has gone");
  const answer = JSON.parse(value);
  if (answer.error !== undefined) throw new Error(`${what}: ${answer.error}`);
  return answer;
}

/**
 * Waits until something holds; says whether it came to that.
 * @param {() => Promise<boolean>} holds
 * @param {number} seconds
 */
export async function comes(holds, seconds) {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    if (await holds()) return true;
    if (Date.now() > until) return false;
    await new Promise((r) => setTimeout(r, 100));
  }
}

/** @param {Page} page @param {string} name */
export const nav = (page, name) => page.locator(".nav a", { hasText: name }).click();
/** @param {Page} page @param {string} text */
export const row = (page, text) => page.locator(".row[data-id]", { hasText: text }).first();

/**
 * Answers the question that stands before everything else, and waits for what came of it.
 * @param {Page} page @param {RegExp} says
 */
export async function agree(page, says) {
  await page.locator("dialog button[type=submit]").click();
  await page.locator(".toast", { hasText: says }).first().waitFor();
  await page.locator("dialog").waitFor({ state: "detached" });
}

/** @param {string} from @returns {Promise<string>} */
export const door = async (from) => (await want("knock", { from })).door;

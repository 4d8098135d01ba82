/**
 * The page under load, with a made-up agent: 10,000 alerts and 1,000 more a second.
 * `node e2e/load.mjs [SECONDS]`; exit 1 where it does not stay usable.
 */
import { fileURLToPath } from "node:url";
import { preview } from "vite";
import { browse, visitor } from "./browser.mjs";
import { begin, end, usable, words } from "./measure.mjs";

/**
 * Serves what was built, with the made-up agent behind it.
 * @param {{ alerts: number, rate: number }} of
 */
export async function serve({ alerts, rate }) {
  process.env["WEIR_MOCK_ALERTS"] = String(alerts);
  process.env["WEIR_MOCK_RATE"] = String(rate);
  const root = fileURLToPath(new URL("..", import.meta.url));
  const server = await preview({ root, configFile: `${root}vite.mock.config.ts`, logLevel: "error", preview: { host: "127.0.0.1", port: 8472, strictPort: true } });
  return { url: "http://127.0.0.1:8472/", close: () => server.close() };
}

/**
 * Walks the pages as a person would while alerts pour in.
 * @param {import("playwright-core").Page} page
 * @param {string} url
 * @param {number} seconds
 */
export async function walk(page, url, seconds) {
  await page.goto(`${url}#/alerts`);
  await page.locator(".row[data-id]").first().waitFor();
  await page.locator('.connection[data-phase="live"]').waitFor();
  const drawn = await page.locator(".row[data-id]").count();
  await begin(page);
  const until = Date.now() + seconds * 1000;
  let rounds = 0;
  const before = Number((await page.locator(".connection").getAttribute("data-received")) ?? "0");
  const began = Date.now();
  while (Date.now() < until) {
    await page.locator(".nav a", { hasText: "Alerts" }).click();
    const rows = page.locator(".rows");
    await rows.focus();
    for (let i = 0; i < 12; i += 1) await page.keyboard.press(i % 3 === 2 ? "PageDown" : "ArrowDown");
    await page.locator("#alerts-q").fill(rounds % 2 === 0 ? "198.51.101.0/24" : "");
    await page.waitForTimeout(400);
    await page.locator(".nav a", { hasText: "Now" }).click();
    await page.locator("#heading", { hasText: "Now" }).waitFor();
    await page.waitForTimeout(600);
    rounds += 1;
  }
  const felt = await end(page);
  const took = (Date.now() - began) / 1000;
  await page.locator(".nav a", { hasText: "Alerts" }).click();
  const total = Number(((await page.locator('.rows[role="table"]').getAttribute("aria-rowcount")) ?? "0")) - 1;
  const received = Number((await page.locator(".connection").getAttribute("data-received")) ?? "0");
  const rate = (received - before) / took;
  return { felt, drawn, total, rate };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const seconds = Number(process.argv[2] ?? "10");
  const server = await serve({ alerts: 10_000, rate: 1000 });
  const got = await browse(async (browser) => walk(await visitor(browser), server.url, seconds));
  await server.close();
  const good = usable(got.felt) && got.total >= 9_000 && got.drawn < 200 && got.rate >= 900;
  console.log(`${good ? "good" : "BAD"}: ${words(got.felt)}; ${got.drawn} of ${got.total} rows drawn, ${got.rate.toFixed(0)} events/s`);
  process.exit(good ? 0 : 1);
}

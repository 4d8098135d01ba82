/** Pictures of every page: dark and light on a desktop, and on a phone. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DESKTOP, PHONE } from "./browser.mjs";

const PAGES = ["now", "alerts", "review", "decisions", "decisions/allow", "decisions/lists", "decisions/history", "flows", "models", "settings"];

/**
 * @param {import("playwright-core").Page} page
 * @param {string} dir
 * @param {(name: string) => Promise<void>} [look] at each page, once it is drawn
 * @returns {Promise<string[]>} the files
 */
export async function shots(page, dir, look) {
  await mkdir(dir, { recursive: true });
  const base = page.url().split("#")[0] ?? "";
  await page.goto(`${base}#/alerts`);
  const row = page.locator(".row[data-id]").first();
  const id = (await row.count()) > 0 ? await row.getAttribute("data-id") : null;
  const pages = id === null ? PAGES : [...PAGES.slice(0, 2), `alerts/${id}`, ...PAGES.slice(2)];
  const files = [];
  for (const [name, size, scheme] of /** @type {const} */ ([["dark", DESKTOP, "dark"], ["light", DESKTOP, "light"], ["phone", PHONE, "dark"]])) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: scheme });
    // Nothing looks pointed at.
    await page.mouse.move(size.width - 1, size.height / 2);
    for (const [at, to] of pages.entries()) {
      await page.goto(`${base}#/${to}`);
      await page.locator("#heading").waitFor();
      await page.waitForTimeout(700);
      const plain = to.replace(/alerts\/.*/, "alert").replace("/", "-");
      const file = join(dir, `${String(at + 1).padStart(2, "0")}-${plain}-${name}.png`);
      await page.screenshot({ path: file });
      files.push(file);
      if (look !== undefined) await look(`${plain} (${name})`);
    }
  }
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({ colorScheme: "dark" });
  return files;
}

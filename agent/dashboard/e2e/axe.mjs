/** Rules for those who hear the page, or use it without a mouse: axe-core judges what was drawn. */
import axe from "axe-core";

/** @typedef {{ name: string, bad: string[], minor: string[], passes: number }} Judged */

/**
 * The debugger puts axe into the page: the policy on scripts lets nobody else.
 * @param {import("playwright-core").Page} page
 * @param {string} name
 * @returns {Promise<Judged>}
 */
export async function judge(page, name) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const r = await /** @type {any} */ (window).axe.run(document, { resultTypes: ["violations"] });
    return {
      passes: r.passes.length,
      violations: r.violations.map((/** @type {any} */ v) => ({ id: v.id, impact: v.impact, help: v.help, where: v.nodes[0]?.target.join(" ") ?? "", count: v.nodes.length })),
    };
  });
  const words = (/** @type {any} */ v) => `${name}: ${v.id} (${v.impact}) ${v.help}: ${v.where}${v.count > 1 ? ` and ${v.count - 1} more` : ""}`;
  const serious = (/** @type {any} */ v) => v.impact === "serious" || v.impact === "critical";
  return {
    name,
    bad: found.violations.filter(serious).map(words),
    minor: found.violations.filter((/** @type {any} */ v) => !serious(v)).map(words),
    passes: found.passes,
  };
}

/**
 * Whether none is serious, in words.
 * @param {Judged[]} all
 * @returns {[boolean, string]}
 */
export function verdict(all) {
  const bad = all.flatMap((j) => j.bad);
  const minor = all.flatMap((j) => j.minor);
  const rules = Math.min(...all.map((j) => j.passes));
  const good = bad.length === 0 && all.length > 0 && rules > 5;
  return [good, `${all.length} pages, at least ${rules} rules met on each, ${bad.length} serious violations, ${minor.length} others${bad.length + minor.length > 0 ? `: ${[...bad, ...minor].slice(0, 6).join(" | ")}` : ""}`];
}

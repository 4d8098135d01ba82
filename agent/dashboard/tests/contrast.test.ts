import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const sheet = readFileSync(new URL("../src/style.css", import.meta.url), "utf8");

/** The colours of a theme: those of the dark one stand over the others. */
function colours(selector: string): Map<string, string> {
  const block = sheet.slice(sheet.indexOf(`${selector} {`));
  return new Map([...block.slice(0, block.indexOf("}")).matchAll(/(--[\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1] ?? "", m[2] ?? ""]));
}

/** Relative luminance, as WCAG 2 has it. */
function luminance(hex: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
  return ((x ?? 0) + 0.05) / ((y ?? 0) + 0.05);
}

const PAIRS = [
  ...["--ground", "--card", "--raised", "--hover"].flatMap((on) => [["--ink", on], ["--dim", on]]),
  ...["--ground", "--card", "--hover", "--accent-soft"].map((on) => ["--accent", on]),
  ["--accent-ink", "--accent"],
  ...["good", "bad", "warn", "info", "calm"].map((t) => [`--${t}`, `--${t}-soft`]),
  ...["good", "bad", "warn"].map((t) => [`--${t}`, "--card"]),
];

describe.each([["light", ":root"], ["dark", ':root[data-theme="dark"]']])("in %s colours", (_, selector) => {
  const all = new Map([...colours(":root"), ...colours(selector)]);
  test.each(PAIRS)("text in %s on %s can be read", (text, ground) => {
    const [a, b] = [all.get(text ?? ""), all.get(ground ?? "")];
    expect(a, text).toBeDefined();
    expect(b, ground).toBeDefined();
    expect(contrast(a ?? "", b ?? "")).toBeGreaterThanOrEqual(4.5);
  });
  test.each(["--passed", "--dropped", "--limited", "--shadowed", "--focus"])("a line in %s can be seen on a card", (line) => {
    expect(contrast(all.get(line) ?? "", all.get("--card") ?? "")).toBeGreaterThanOrEqual(3);
  });
});

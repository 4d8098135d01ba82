/**
 * A person at the page, beside an agent in the lab. Speaks in JSON lines: on standard output what was found and what is wanted of
 * the lab, on standard input the lab's answers.
 */
import { browse, visitor } from "./browser.mjs";
import { serve, walk } from "./load.mjs";
import { judge, verdict } from "./axe.mjs";
import { begin, end, usable, words } from "./measure.mjs";
import { allowed, listed, paused, taught } from "./operator.mjs";
import { shots } from "./shots.mjs";
import { comes, heading, nav, out, point, row, want } from "./talk.mjs";

const env = (/** @type {string} */ name) => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set; this runs in \`cargo xtask lab --scene web\``);
  return value;
};
const SCANNER = env("WEIR_SCANNER");
const NEIGHBOUR = env("WEIR_NEIGHBOUR");
const SECONDS = Number(env("WEIR_LOAD_SECONDS"));
const SCRIPT = `<img src=x onerror="window.__script=1"><script>window.__script=1</script>`;

/** @typedef {import("playwright-core").Page} Page */

/** What was judged so far. */
const judged = /** @type {import("./axe.mjs").Judged[]} */ ([]);
/** @param {Page} page @param {string} name */
async function look(page, name) {
  judged.push(await judge(page, name));
}

/** What the browser complained of: errors, and breaches of the policy on scripts and styles. */
const complaints = /** @type {string[]} */ ([]);

/** @param {Page} page */
async function watch(page) {
  page.on("pageerror", (e) => complaints.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error") complaints.push(m.text());
  });
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
}

/**
 * Logs in by a link.
 * @param {import("playwright-core").Browser} browser
 * @param {string} role
 */
async function login(browser, role) {
  const page = await visitor(browser);
  await watch(page);
  const { url } = await want("login", { role });
  await page.goto(url);
  if ((await page.locator("#app").count()) === 0) {
    out({ skip: "the agent was built without the web page; `cargo xtask dashboard` builds it" });
    process.exit(0);
  }
  await page.locator("#heading").waitFor();
  await page.locator('.connection[data-phase="live"]').waitFor();
  return { page, url };
}

/** @param {Page} page */
async function compressed(page) {
  const { sent, held } = await page.evaluate(() => {
    const files = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByType("resource")).filter((e) => e.name.includes("/assets/"));
    const sum = (/** @type {(e: PerformanceResourceTiming) => number} */ of) => files.reduce((n, e) => n + of(e), 0);
    return { sent: sum((e) => e.encodedBodySize), held: sum((e) => e.decodedBodySize) };
  });
  point("the page is sent compressed", sent > 0 && sent * 2 < held, `${(sent / 1000).toFixed(0)} kB for files of ${(held / 1000).toFixed(0)} kB`);
}

/** @param {Page} page */
async function attackAppears(page) {
  heading("In the browser: a scan appears without a reload");
  await nav(page, "Alerts");
  await page.evaluate(() => Object.assign(window, { __same: true }));
  const began = Date.now();
  const attack = want("scan", { from: SCANNER, rate: 150, seconds: 8 });
  const there = await comes(async () => (await row(page, SCANNER).count()) > 0, 20);
  const took = (Date.now() - began) / 1000;
  const { tries, answered } = await attack;
  const same = await page.evaluate(() => /** @type {any} */ (window).__same === true);
  point("an alert, live", there && same, there ? `${took.toFixed(1)} s after the scan began; ${answered} of ${tries} tries answered` : "no alert appeared");

  await row(page, SCANNER).click();
  await page.locator(".reasons li, .empty").first().waitFor();
  const reasons = await page.locator(".reason-words").allInnerTexts();
  const charts = await page.locator(".reason-chart svg").count();
  const course = await page.locator(".chart canvas").count();
  point("its reasons", reasons.length > 0 && charts === reasons.length && course === 1, `${reasons.length} in words, the first: ${reasons[0] ?? "none"}; ${charts} charts of observed against usual`);
  return page.url();
}

/** @param {Page} page */
async function approved(page) {
  heading("In the browser: a person blocks the scanner, and takes it back by the keyboard");
  await nav(page, "Review");
  const question = page.locator(".questions a", { hasText: SCANNER }).first();
  await question.waitFor({ timeout: 20_000 });
  await question.click();
  await page.locator(".ask", { hasText: SCANNER }).waitFor();
  const proposed = page.locator(".options li.proposed button");
  await proposed.waitFor({ timeout: 20_000 });
  const cuts = await page.locator(".options .cuts").count();
  await page.locator("#review-comment").fill(SCRIPT);
  await proposed.click();
  await page.locator(".toast", { hasText: "Question" }).waitFor();
  await nav(page, "Decisions");
  const entry = row(page, SCANNER);
  const there = await comes(async () => (await entry.count()) > 0 && (await entry.innerText()).includes("enforced"), 10);
  const doors = [(await want("knock", { from: SCANNER })).door, (await want("knock", { from: NEIGHBOUR })).door];
  point("one click", there && doors[0] === "Shut" && doors[1] === "Open", `the scanner: ${doors[0]}, its neighbour: ${doors[1]}; ${cuts} options told what they would cut`);

  const packets = async () => Number(((await entry.locator('[role="cell"].num span').first().getAttribute("title")) ?? "0").split(" ")[0]?.replaceAll(",", ""));
  const dropped = await comes(async () => (await packets()) > 0, 10);
  point("packets drop, live", dropped, `${await packets()} packets met the entry`);

  const before = await packets();
  await page.reload();
  await nav(page, "Decisions");
  await entry.locator("svg.spark").waitFor();
  const course = (await entry.locator("svg.spark").getAttribute("aria-label")) ?? "";
  const drawn = Number(/: ([\d,]+) packet/.exec(course)?.[1]?.replaceAll(",", "") ?? "0");
  point("hits from before are there after a reload", before > 0 && drawn >= before, `${before} packets before; then “${course}”`);

  await nav(page, "Review");
  await page.locator("#heading").click();
  await page.keyboard.press("u");
  await page.locator(".toast", { hasText: /taken back/i }).waitFor();
  const door = (await want("knock", { from: SCANNER })).door;
  await nav(page, "Decisions");
  // Shadow entries of before stay; they drop nothing.
  const drops = page.locator(".row[data-id]", { hasText: SCANNER }).filter({ has: page.locator(".pill", { hasText: "drop" }) });
  const gone = await comes(async () => (await drops.count()) === 0, 10);
  point("taken back", door === "Open" && gone, `the scanner: ${door}; on the page: ${gone ? "gone" : "still there"}`);
}

/** @param {Page} page @param {string} alert */
async function labelled(page, alert) {
  heading("In the browser: a false alarm, with a comment that would be a script elsewhere");
  await page.goto(alert);
  await page.locator("#feedback-comment").fill(SCRIPT);
  await page.getByRole("button", { name: "False alarm" }).click();
  await page.getByRole("button", { name: "Label as false alarm" }).click();
  await page.locator(".said .pill", { hasText: "false alarm" }).waitFor();

  await nav(page, "Decisions");
  await page.locator(".card.add summary").click();
  await page.locator("#decide-target").fill("203.0.113.9");
  await page.locator(".card.add select").selectOption("ACTION_SHADOW");
  await page.locator(".card.add input[maxlength]").fill(SCRIPT);
  await page.getByRole("button", { name: "Decide", exact: true }).click();
  await row(page, "203.0.113.9").waitFor();

  await page.reload();
  await page.locator("#heading").waitFor();
  await nav(page, "Alerts");
  await row(page, SCANNER).waitFor();
  const said = await row(page, SCANNER).innerText();
  await nav(page, "Review");
  const asked = await page.locator(".questions li", { hasText: SCANNER }).first().innerText();
  await page.goto(`${alert.split("#")[0]}#/decisions/history`);
  await page.locator(".row[data-id]", { hasText: SCANNER }).first().waitFor();
  const changes = await page.locator(".row[data-id]", { hasText: SCANNER }).allInnerTexts();
  const kept = said.includes("false alarm") && ["enforced", "deleted"].every((c) => changes.some((t) => t.includes(c)));
  point("all is there after a reload", kept, `the alert is a ${said.includes("false alarm") ? "false alarm" : "?"}; the question: ${asked.split("\n")[0]}; ${changes.length} changes of decisions`);
}

/** @param {Page} page @param {string} alert */
async function inert(page, alert) {
  heading("In the browser: markup in what is shown is text");
  const base = alert.split("#")[0] ?? "";
  let shown = 0;
  const ran = [];
  for (const to of [alert, ...["now", "alerts", "review", "decisions", "decisions/allow", "decisions/history", "flows", "models", "settings"].map((p) => `${base}#/${p}`)]) {
    await page.goto(to);
    await page.locator("#heading").waitFor();
    await page.waitForTimeout(400);
    const found = await page.evaluate(() => ({
      text: (document.querySelector("main")?.textContent ?? "").includes("<img src=x") || document.querySelector('[title*="<img src=x"]') !== null,
      ran: /** @type {any} */ (window).__script === 1 || document.querySelector("main img, main script") !== null,
    }));
    shown += found.text ? 1 : 0;
    if (found.ran) ran.push(to);
  }
  point("scripts are inert", ran.length === 0 && shown >= 3, `shown as text on ${shown} pages${ran.length > 0 ? `; RAN on ${ran.join(", ")}` : ", ran on none"}`);
}

/** @param {import("playwright-core").Browser} browser */
async function viewers(browser) {
  heading("In the browser: a viewer may look");
  const { page, url } = await login(browser, "viewer");
  await nav(page, "Review");
  await page.locator("#heading", { hasText: "Review" }).waitFor();
  await page.waitForTimeout(1500);
  const [buttons, enabled] = [await page.locator(".options button").count(), await page.locator(".options button:enabled").count()];
  await nav(page, "Models");
  const learn = await page.getByRole("button", { name: "Learn…" }).isEnabled();
  await nav(page, "Decisions");
  await page.locator(".card.add summary").click();
  await page.locator("#decide-target").fill("203.0.113.10");
  const decide = await page.getByRole("button", { name: "Decide", exact: true }).isEnabled();
  const refused = await page.evaluate(async () => {
    const { csrf } = await (await fetch("/api/v1/session")).json();
    const send = async (/** @type {Record<string, string>} */ headers) => (await fetch("/api/v1/decisions", { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify({ target: "203.0.113.10", action: "ACTION_DROP" }) })).status;
    return { role: await send({ "x-weir-csrf": csrf }), token: await send({}) };
  });
  const used = (await page.request.get(url, { maxRedirects: 0 })).status();
  await nav(page, "Settings");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.locator(".signed-out code").waitFor();
  await look(page, "logged out");
  const out = await page.evaluate(async () => (await fetch("/api/v1/status")).status);
  await page.context().close();
  const good = buttons > 0 && enabled === 0 && !decide && !learn && refused.role === 403 && refused.token === 403 && used !== 303 && out === 401;
  point("a viewer", good, `${enabled} of ${buttons} answers enabled; a decision is refused with ${refused.role}, without the page's token ${refused.token}; the link a second time: ${used}; after logging out: ${out}`);
}

/** @param {Page} page */
async function loaded(page) {
  heading(`In the browser: ${SECONDS} s of load`);
  await nav(page, "Now");
  await begin(page);
  const load = want("load", { seconds: SECONDS });
  let over = false;
  const done = load.finally(() => { over = true; });
  while (!over) {
    for (const name of ["Alerts", "Flows", "Review", "Now"]) {
      await nav(page, name);
      await page.locator("#heading", { hasText: name }).waitFor();
      await page.keyboard.press("Tab");
      await page.waitForTimeout(350);
    }
  }
  const r = await done;
  const felt = await end(page);
  const live = await page.locator('.connection[data-phase="live"]').count();
  point("the page under load", usable(felt) && live === 1, `${r.per_second} flows/s: ${words(felt)}`);
  const all = r.told >= r.tries && r.unrecorded === 0 && r.alerts_not_stored === 0 && r.changes_not_stored === 0 && r.alerts > 0 && r.changes > 0;
  point("nothing is lost", all && r.lost.length === 0 && r.tries >= 800 * SECONDS, `${r.told} flows in the event log after ${r.tries} attempts, ${r.unrecorded} of them not in the record; of ${r.alerts} alerts and ${r.changes} changes of decisions ${r.alerts_not_stored} and ${r.changes_not_stored} not in the store; lost: ${r.lost.join(", ") || "nothing"}`);
  point("memory", r.grown <= r.max_grown, `the agent grew by ${(r.grown / 1048576).toFixed(0)} MiB to ${(r.resident / 1048576).toFixed(0)}`);
}

/** @param {Page} page */
async function restarted(page) {
  heading("In the browser: the agent is stopped and started again");
  await nav(page, "Alerts");
  await want("stop");
  const noticed = await comes(async () => (await page.locator('.connection[data-phase="waiting"]').count()) > 0, 15);
  await want("start");
  const asked = page.locator(".signed-out code");
  const live = page.locator('.connection[data-phase="live"]');
  const back = await comes(async () => (await live.count()) + (await asked.count()) > 0, 40);
  const again = (await asked.count()) > 0;
  if (again) {
    await page.goto((await want("login", { role: "operator" })).url);
    await live.waitFor();
    await nav(page, "Alerts");
  }
  await row(page, SCANNER).waitFor();
  const kept = await page.locator(".row[data-id]", { hasText: "false alarm" }).count();
  point("over a restart", noticed && back && kept > 0, `${noticed ? "said to be away" : "not noticed"}, then ${again ? "asked to log in again" : back ? "live by itself" : "gone"}; ${kept} false alarm found again`);
}

/** @param {import("playwright-core").Browser} browser */
async function poured(browser) {
  heading(`In the browser: 10,000 alerts and 1,000 more a second for ${SECONDS} s, made up by the page's own mock`);
  const server = await serve({ alerts: 10_000, rate: 1000 });
  const page = await visitor(browser);
  const got = await walk(page, server.url, SECONDS);
  await page.context().close();
  await server.close();
  const good = usable(got.felt) && got.total >= 9_000 && got.drawn < 200 && got.rate >= 800;
  point("many alerts", good, `${got.rate.toFixed(0)} events/s: ${words(got.felt)}; ${got.drawn} of ${got.total} rows drawn`);
}

await browse(async (browser) => {
  const { page } = await login(browser, "operator");
  await compressed(page);
  await taught(page, () => look(page, "a dialog"), async () => {
    await allowed(page, NEIGHBOUR);
    await listed(page, NEIGHBOUR);
    await paused(page);
  });
  const alert = await attackAppears(page);
  await approved(page);
  await labelled(page, alert);
  await inert(page, alert);
  await loaded(page);
  // Now a question is open.
  await viewers(browser);
  heading("In the browser: every page as a picture, and by the rules for those who do not see it");
  const files = await shots(page, env("WEIR_SHOTS"), (name) => look(page, name));
  point("pictures", files.length >= 30, `${files.length} in ${env("WEIR_SHOTS")}`);
  point("accessibility", ...verdict(judged));
  await restarted(page);
  // What was refused on purpose, and the agent's absence.
  const bad = complaints.filter((c) => !/status of (401|403|404)|ERR_(CONNECTION|EMPTY|INCOMPLETE|NETWORK)/.test(c));
  point("the browser complains of nothing", bad.length === 0, bad.length === 0 ? "no error, no breach of the policy" : bad.slice(0, 3).join(" | "));
  await poured(browser);
});
out({ done: true });
process.exit(0);

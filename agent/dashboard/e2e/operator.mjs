/** What a person does at the page with models and lists, each beside what the agent or the attacker then says of it. */
import { agree, comes, door, heading, nav, point, want } from "./talk.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** @returns {Promise<any>} what `weir status -o json` says */
const status = async () => (await want("ask", { words: ["status"] })).answer[0];

/** @param {Page} page @param {string} name */
const tab = (page, name) => page.locator(".tabs a", { hasText: name }).click();

/**
 * Learns anew, promotes what was learned, compares the bundle of before with it, and rolls back to that.
 * @param {Page} page
 * @param {() => Promise<void>} look at the dialog that asks
 * @param {() => Promise<void>} meanwhile what is done while it learns
 */
export async function taught(page, look, meanwhile) {
  heading("In the browser: a person has the agent learn what is normal");
  const before = (await status()).bundle.id;
  await nav(page, "Models");
  await page.getByRole("button", { name: "Learn…" }).click();
  await page.locator("dialog select").selectOption("LEARN_FROM_LIVE");
  await page.locator("dialog input").fill("16s");
  await look();
  await agree(page, /Learning has begun/);
  const card = page.locator("section.card", { has: page.locator("h2", { hasText: "Learning" }) });
  await card.waitFor();
  const words = (await card.innerText()).split("\n").at(-1) ?? "";
  const learning = (await status()).learning;
  point("learning begins", learning !== null && learning !== undefined, `“${words}”`);

  await meanwhile();

  heading("In the browser: a person promotes what was learned, compares it with the bundle of before, and goes back to that");
  await nav(page, "Models");
  const bundle = (/** @type {string} */ id) => page.locator("tr", { has: page.locator(".link-button", { hasText: id }) });
  let id = before;
  const learned = await comes(async () => {
    id = (await status()).bundle.id;
    return id !== before;
  }, 110);
  await bundle(id).locator(".pill", { hasText: "serves" }).waitFor({ timeout: 15_000 });
  const shown = await bundle(id).locator(".pill").allInnerTexts();
  point("what was learned serves", learned && shown.includes("alerts only"), `${id}: ${shown.join(", ")}`);

  await bundle(id).getByRole("button", { name: "Promote" }).click();
  await agree(page, /is promoted/);
  await bundle(id).locator(".pill", { hasText: "promoted" }).waitFor();
  const promoted = (await status()).bundle;
  point("promoted", promoted.id === id && promoted.promoted === true, `the agent: ${promoted.id} ${promoted.promoted ? "is promoted" : "is not"}`);

  await bundle(before).getByRole("button", { name: "Compare" }).click();
  await agree(page, /challenges from now on/);
  await bundle(before).locator(".pill", { hasText: "challenges" }).waitFor();
  const compared = page.locator('[aria-label="Comparison"]');
  await compared.locator("tbody tr").first().waitFor({ timeout: 20_000 });
  const named = (await compared.locator("thead").innerText()).replaceAll(/\s+/g, " ");
  const challenger = (await status()).challenger;
  const rows = await compared.locator("tbody tr").count();
  await bundle(before).getByRole("button", { name: "End comparison" }).click();
  await agree(page, /Nothing challenges/);
  const ended = (await status()).challenger;
  point("compared", named.includes(`${id} (serves)`) && named.includes(before) && challenger?.id === before && (ended === null || ended === undefined) && rows > 0, `“${named}”, ${rows} rows; the agent: ${challenger?.id ?? "nothing"} challenges; afterwards ${ended === null || ended === undefined ? "nothing challenges" : "it still challenges"}`);

  await bundle(before).getByRole("button", { name: "Roll back" }).click();
  await agree(page, /serves again/);
  await bundle(before).locator(".pill", { hasText: "serves" }).waitFor();
  const back = (await status()).bundle;
  point("rolled back", back.id === before && back.promoted === true, `the agent: ${back.id} ${back.promoted ? "is promoted" : "is not"}`);
}

/**
 * Who is put onto the allow list is let in again, and can be blocked once taken off.
 * @param {Page} page @param {string} whom
 */
export async function allowed(page, whom) {
  heading("In the browser: a person blocks somebody, and puts them onto the allow list");
  await nav(page, "Decisions");
  await page.locator(".card.add summary").click();
  await page.locator("#decide-target").fill(whom);
  await page.getByRole("button", { name: "Decide", exact: true }).click();
  await page.locator(".row[data-id]", { hasText: whom }).first().waitFor();
  const doors = [await door(whom)];
  await tab(page, "Allow list");
  const form = page.locator("form.filters.card");
  await form.locator("input").first().fill(whom);
  await form.locator("input").nth(1).fill("a scanner of our own");
  await form.getByRole("button", { name: "Never block" }).click();
  await page.locator(".toast", { hasText: /is never blocked; lifted/ }).waitFor();
  const entry = page.locator("tr", { hasText: whom });
  const said = await entry.innerText();
  doors.push(await door(whom));
  const check = async () => {
    await form.locator("input").first().fill(whom);
    await form.getByRole("button", { name: "Check" }).click();
    return page.locator("p.note");
  };
  await (await check()).filter({ hasText: "is protected by" }).waitFor();
  await entry.getByRole("button", { name: "Take off" }).click();
  await agree(page, /can be blocked again/);
  await entry.waitFor({ state: "detached" });
  await (await check()).filter({ hasText: "is not protected" }).waitFor();
  await tab(page, "In force");
  const gone = (await page.locator(".row[data-id]", { hasText: whom }).count()) === 0;
  point("the allow list", doors.join() === "Shut,Open" && said.includes("a scanner of our own") && gone, `blocked: ${doors[0]}, then on the allow list: ${doors[1]}; the block is ${gone ? "lifted" : "still there"}`);
}

/**
 * A list that somebody imported is shown with its members, and ended.
 * @param {Page} page @param {string} whom
 */
export async function listed(page, whom) {
  heading("In the browser: a person looks into an imported list, and ends it");
  await want("import", { from: whom });
  const doors = [await door(whom)];
  await nav(page, "Decisions");
  await tab(page, "Imported lists");
  const list = page.locator('[aria-label="Lists"] tbody tr', { hasText: "lab" });
  await list.waitFor();
  await list.getByRole("button", { name: "Members" }).click();
  const member = page.locator('[aria-label="Members of lab"] .row[data-id]', { hasText: whom });
  await member.waitFor();
  const about = (await list.innerText()).replaceAll(/\s+/g, " ");
  await list.getByRole("button", { name: "End" }).click();
  await agree(page, /list lab is gone/);
  await list.waitFor({ state: "detached" });
  doors.push(await door(whom));
  const members = await member.count();
  point("a list", doors.join() === "Shut,Open" && members === 0, `on it: ${doors[0]}, once it was ended: ${doors[1]}; shown as “${about}”, and its members ${members === 0 ? "no more" : "still"}`);
}

/**
 * What is read is held still, and goes on.
 * @param {Page} page
 */
export async function paused(page) {
  heading("In the browser: a person stops flows from running past, and lets them go on");
  await nav(page, "Flows");
  await page.getByRole("button", { name: "As they come" }).click();
  const first = async () => page.locator(".rows .row[data-id]").first().getAttribute("data-id");
  await page.locator(".rows .row[data-id]").first().waitFor({ timeout: 15_000 });
  const moving = await first();
  const moves = await comes(async () => (await first()) !== moving, 10);
  await page.getByRole("button", { name: "Pause" }).click();
  const held = await first();
  const since = page.locator(".card-extra .dim");
  const counted = await comes(async () => Number.parseInt(await since.innerText(), 10) > 0, 10);
  const still = (await first()) === held;
  const words = await since.innerText();
  await page.getByRole("button", { name: "Resume" }).click();
  const goes = await comes(async () => (await first()) !== held, 10);
  await page.getByRole("button", { name: "Recorded" }).click();
  point("paused", moves && counted && still && goes, `held still while there were ${words.trim()}; then ${goes ? "it went on" : "it stood still"}`);
}

/** `node e2e/shoot.mjs URL DIR`: pictures of the page at a URL, such as that of `npm run mock`, and what is hard to use on them without eyes. */
import { judge } from "./axe.mjs";
import { browse, visitor } from "./browser.mjs";
import { shots } from "./shots.mjs";

const [url = "http://127.0.0.1:8471/", dir = "../../target/dashboard-shots"] = process.argv.slice(2);
const files = await browse(async (browser) => {
  const page = await visitor(browser);
  page.on("console", (m) => {
    if (m.type() === "error") console.error(m.text());
  });
  page.on("pageerror", (e) => console.error(e));
  await page.goto(url);
  await page.locator("#heading").waitFor();
  return shots(page, dir, async (name) => {
    const { bad, minor } = await judge(page, name);
    for (const words of [...bad, ...minor]) console.error(words);
  });
});
console.log(files.join("\n"));

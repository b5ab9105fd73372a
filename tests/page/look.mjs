// Drives a headless Chromium for driver.rs: each line of standard input is a command, each line of standard output its answer.
//
//   {"do": "open", "url": …, "width": …, "scheme": "light" | "dark", "zone": …, "status": {…}, "history": {…}}
//                             opens a new page; a given status or history replaces the agent's, and a status also its live events; the
//                             history "never" is never answered
//   {"do": "wait", "text": …} waits until the text is on the page
//   {"do": "click", "selector": …}
//                             clicks the first element there
//   {"do": "hold", "selector": …}
//                             selects the text there, and returns the part that is still selected after the page was drawn twice more
//   {"do": "shot", "file": …} saves the whole page as PNG
//   {"do": "look"}            returns everything that a person or a checker would find: texts, errors, requests to other hosts, width,
//                             axe-core's verdict
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

const require = createRequire(`${process.argv[2]}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const TIMEOUT = 60_000;

// The browser runs as root in a namespace of its own, where its sandbox cannot work and would add nothing.
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
let context, page, errors, elsewhere;

const commands = {
  async open({ url, width, scheme, zone, status, history }) {
    await context?.close();
    context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme ?? "light", reducedMotion: "reduce", timezoneId: zone });
    context.setDefaultTimeout(TIMEOUT);
    page = await context.newPage();
    [errors, elsewhere] = [[], []];
    page.on("console", (message) => { if (["error", "warning"].includes(message.type())) errors.push(message.text()); });
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith("data:")) elsewhere.push(request.url()); });
    if (status) {
      await page.route("**/status", (route) => route.fulfill({ json: status }));
      await page.route("**/events", (route) => route.fulfill({ contentType: "text/event-stream", body: `retry: 60000\ndata: ${JSON.stringify(status)}\n\n` }));
    }
    if (history === "never") await page.route("**/history", () => {});
    else if (history) await page.route("**/history", (route) => route.fulfill({ json: history }));
    const answer = await page.goto(url);
    return { code: answer.status(), headers: answer.headers() };
  },
  async wait({ text }) {
    await page.getByText(text).first().waitFor();
    return {};
  },
  async click({ selector }) {
    await page.locator(selector).first().click();
    return {};
  },
  async hold({ selector }) {
    const asOf = () => page.locator("#as-of").textContent();
    await page.locator(selector).first().evaluate((element) => getSelection().selectAllChildren(element));
    for (let drawn = 0; drawn < 2; drawn++) {
      const before = await asOf();
      /* The page's content security policy prevents the driver from waiting inside the page. */
      while ((await asOf()) === before) await setTimeout(100);
    }
    return { held: await page.evaluate(() => getSelection().toString()) };
  },
  async shot({ file }) {
    await page.screenshot({ path: file, fullPage: true });
    return {};
  },
  async look() {
    await page.evaluate(axe);
    const result = await page.evaluate(() => axe.run());
    const serious = result.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const seen = await page.evaluate(() => ({
      title: document.title,
      headline: document.querySelector("h1").textContent,
      /* A number and its unit stay on one line. */
      text: document.body.innerText.replaceAll("\u00a0", " "),
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      troubled: [...document.querySelectorAll(".hop.failed h3")].map((hop) => hop.textContent),
      hops: document.querySelectorAll(".hop").length,
      lines: [...document.querySelectorAll(".rtt-line")].map((line) => line.getTotalLength()),
      starts: [...document.querySelectorAll(".rtt-line")].map((line) => line.getBBox().x),
      bars: [...document.querySelectorAll(".loss-bar")].map((bar) => Number(bar.getAttribute("height"))),
      vteps: [...document.querySelectorAll(".vtep")].map((vtep) => vtep.id.replace("vtep-", "")),
      folded: document.querySelectorAll("details:not([open])").length,
      runbooks: [...document.querySelectorAll(".why a")].map((link) => link.getAttribute("href")),
      images: document.querySelectorAll("img").length,
      cells: document.querySelectorAll(".cell").length,
      rows: [...document.querySelectorAll(".row h3")].map((row) => row.textContent),
    }));
    const violations = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
    return { ...seen, errors, elsewhere, violations, checked: result.passes.length };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await commands[command.do](command).catch((error) => ({ failed: String(error) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();

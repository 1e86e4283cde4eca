/* The board: polls /board/state each second while the page is visible, and draws the answer.
   Nodes are reused from one answer to the next, so that new and moved ones can be animated. */

const EVERY = 1000; // milliseconds between polls
const LATE = 5000; // milliseconds without an answer, after which the board reports it
const IDLE = 25; // seconds without an event, after which a visitor fades
const SPAN = 90; // minimum length of a curve in seconds
const CARDS = 12; // visitors shown; the others are counted
const FEED = 16; // events in the list
const SVG = "http://www.w3.org/2000/svg";
const slot = (name) => document.querySelector(`[data-slot=${name}]`);
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function element(tag, className, ...inside) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...inside);
  return node;
}

/** Set a text only if it differs, so that the browser lays out nothing else. */
function write(node, text) {
  if (node.textContent !== `${text}`) node.textContent = text;
}

function ago(seconds) {
  if (seconds < 5) return "now";
  return seconds < 60 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

const percent = (score) => `${Math.round(score * 100)}%`;

/** Fill a list with one node per item, by key; return where the nodes were before. */
function fill(list, items, keyOf, make, update) {
  const nodes = new Map([...list.children].map((node) => [node.dataset.key, node]));
  const places = new Map([...nodes].map(([key, node]) => [key, node.getBoundingClientRect()]));
  const first = !list.dataset.filled;
  list.dataset.filled = "yes";
  items.forEach((item, index) => {
    const key = `${keyOf(item)}`;
    let node = nodes.get(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
      if (!first) node.classList.add("new");
    }
    nodes.delete(key);
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    update?.(node, item);
  });
  nodes.forEach((node) => node.remove());
  return places;
}

/** Animate the nodes that have moved. */
function slide(list, places) {
  if (reducedMotion.matches) return;
  for (const node of list.children) {
    const before = places.get(node.dataset.key);
    if (!before) continue;
    const after = node.getBoundingClientRect();
    const [x, y] = [before.left - after.left, before.top - after.top];
    if (Math.hypot(x, y) < 2) continue;
    node.animate([{ translate: `${x}px ${y}px` }, { translate: "0" }], { duration: 500, easing: "ease-in-out" });
  }
}

/* ---- a visitor ---- */

function face(hue) {
  const dot = element("span", "face");
  dot.style.background = `hsl(${hue} 65% 62%)`;
  return dot;
}

function card(visitor) {
  const spark = document.createElementNS(SVG, "svg");
  spark.setAttribute("class", "spark");
  spark.setAttribute("viewBox", "0 0 200 50");
  spark.setAttribute("preserveAspectRatio", "none");
  spark.setAttribute("role", "img");
  for (const name of ["under", "base", "limit", "curve", "end"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    spark.append(path);
  }
  const name = element("p", "name", face(visitor.hue), visitor.name);
  return element("li", "card", name, element("p", "score"), element("p", "where"), spark, element("p", "ticks"));
}

function draw(node, visitor, state) {
  const quiet = state.now - visitor.last;
  node.classList.toggle("idle", quiet > IDLE);
  node.classList.toggle("act", visitor.act && !visitor.converted);
  node.classList.toggle("held-out", visitor.held_out && !visitor.converted);
  node.classList.toggle("converted", visitor.converted);
  const latest = visitor.scores.at(-1)?.[1];
  const score = node.querySelector(".score");
  score.classList.toggle("none", latest === undefined);
  write(score, latest === undefined ? "no score yet" : percent(latest));
  const where = visitor.converted ? "form sent" : visitor.page || "just scored";
  const holdout = visitor.held_out ? "held out · " : "";
  write(node.querySelector(".where"), `${holdout}${where} · ${ago(quiet)}`);
  ticks(node.querySelector(".ticks"), visitor.events);
  curve(node.querySelector(".spark"), visitor, state);
}

function ticks(row, events) {
  const text = events.join(" ");
  if (row.dataset.events === text) return;
  row.dataset.events = text;
  row.replaceChildren(...events.slice(-26).map((mark) => element("i", mark)));
}

/** Draw scores as steps: each holds until the next. The scale is 0 to 1 for all visitors. */
function curve(svg, visitor, state) {
  const start = Math.min(visitor.first, visitor.scores[0]?.[0] ?? visitor.first);
  const from = Math.min(start, state.now - SPAN);
  const x = (at) => (200 * (at - from)) / (state.now - from);
  const y = (score) => 48 - 46 * score;
  const set = (name, path) => svg.querySelector(`.${name}`).setAttribute("d", path);
  set("base", "M0 48H200");
  set("limit", state.threshold === null ? "" : `M0 ${y(state.threshold)}H200`);
  const points = visitor.scores;
  if (!points.length) return ["under", "curve", "end"].forEach((name) => set(name, ""));
  const steps = points.map(([at, score], i) => `${i ? `H${x(at).toFixed(1)}V` : `M${x(at).toFixed(1)} `}${y(score).toFixed(1)}`);
  const line = `${steps.join("")}H200`;
  set("curve", line);
  set("under", `${line}V48H${x(points[0][0]).toFixed(1)}Z`);
  set("end", `M200 ${y(points.at(-1)[1]).toFixed(1)}h0`);
  svg.setAttribute("aria-label", `Scores of ${visitor.name}, the last ${percent(points.at(-1)[1])}`);
}

/* ---- the lists at the side ---- */

function happened(entry) {
  const words = element("p", "", entry.name, element("span", "", ` ${entry.action}${entry.mark === "view" ? ` ${entry.page}` : ""}`));
  return element("li", "", element("i", entry.mark), words, element("time", ""));
}

function converted(entry) {
  const minutes = entry.took < 90 ? `${Math.round(entry.took)} s` : `${Math.round(entry.took / 60)} min`;
  const was = entry.score === null ? "it had no score yet" : `the last score was ${percent(entry.score)}`;
  const name = element("p", "name", face(entry.hue), entry.name);
  return element("li", "", name, element("p", "when"), element("p", "was", `after ${minutes} on the site; ${was}`));
}

function show(state) {
  write(slot("here"), state.here);
  write(slot("minute"), state.minute);
  write(slot("conversions"), state.conversions);
  slot("nobody").hidden = state.visitors.length > 0;
  slot("none").hidden = state.converted.length > 0;
  write(slot("threshold"), state.threshold === null ? "" : `: ${percent(state.threshold)}`);
  const cards = slot("visitors");
  const shown = state.visitors.slice(0, CARDS);
  write(slot("more"), state.here > shown.length ? `and ${state.here - shown.length} more` : "");
  const places = fill(cards, shown, (v) => v.key, card, (node, v) => draw(node, v, state));
  slide(cards, places);
  fill(slot("converted"), state.converted.slice(0, 4), (e) => e.number, converted, (node, e) => write(node.querySelector(".when"), ago(state.now - e.at)));
  fill(slot("feed"), state.feed.slice(0, FEED), (e) => e.number, happened, (node, e) => write(node.querySelector("time"), ago(state.now - e.at)));
}

/* ---- once a second ---- */

let answered = Date.now();

function showState(state, text) {
  document.body.dataset.state = state;
  write(slot("state"), text);
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/board/state", { signal: AbortSignal.timeout(LATE) });
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.json());
      answered = Date.now();
      showState("live", "live");
    } catch {
      if (Date.now() - answered > LATE) showState("lost", "the sandbox does not answer; trying again");
    }
  }
  setTimeout(poll, EVERY);
}

document.addEventListener("visibilitychange", () => { answered = Date.now(); });
poll();

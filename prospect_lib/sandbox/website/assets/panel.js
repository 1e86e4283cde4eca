/* The developer panel: scores of this page's visitor, with reasons, through the client that the
   prediction server offers, /prospect.js. Invitations arrive separately, as interventions that
   the server pushes (invitation.js). */

import { appId, confirmed, forgetful, tracker } from "./tracking.js";
import { forget, subscribe } from "./invitation.js";

const EVERY = 10; // seconds between scores
const AGAIN = 5; // seconds between searches for a server, while there is none
const MOMENTS = ["interval", "page_view", "focus", "change", "play"]; // the last three are DOM events
const PATIENCE = 2; // seconds to wait for the collector
const MAX_SCORES = 60; // in the small chart
const HOW_TO_START = "Start it with “make demo” or in notebook 04; this panel goes on by itself.";

const panel = document.getElementById("panel");
const scoreNow = document.getElementById("panel-score-now");
const slot = (name) => panel.querySelector(`[data-slot=${name}]`);
const session = () => tracker.getDomainUserInfo()[6];

const memory = {
  read: () => JSON.parse(sessionStorage.getItem("scores") ?? "[]"),
  add(response) {
    const entry = { score: response.score, at: response.scored_at ?? new Date().toISOString() };
    const scores = [...memory.read(), entry].slice(-MAX_SCORES);
    sessionStorage.setItem("scores", JSON.stringify(scores));
    sessionStorage.setItem("latest", JSON.stringify(response));
  },
  latest: () => JSON.parse(sessionStorage.getItem("latest") ?? "null"),
};

/* ---- display ---- */

const PERIODS = { d: "day", h: "hour", m: "minute" };
const NO_FEATURES = { __sum_of_others: "All other features", __calibration: "Calibration" };

/** `num_pricing_views_l7d` -> "Pricing views, 7 days". */
function readable(name) {
  if (name in NO_FEATURES) return NO_FEATURES[name];
  const [, stem, count, unit] = name.match(/^(.*?)(?:_l(\d+)([dhm]))?$/);
  const words = stem
    .replace(/^(num|had)_/, "")
    .replace("refr_", "referrer_")
    .replace("mkt_", "campaign_")
    .replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1) + (count ? `, ${count} ${PERIODS[unit]}${count > 1 ? "s" : ""}` : "");
}

function plain(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && !Number.isInteger(value)) return value.toFixed(1);
  return Array.isArray(value) ? `${value.length}` : `${value}`;
}

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** How much a reason moves the score, compared with the strongest one. */
function inWords(amount, largest) {
  const weight = Math.abs(amount) / largest;
  const much = weight > 0.6 ? " a lot" : weight > 0.2 ? "" : " a little";
  return (amount < 0 ? "lowers it" : "raises it") + much;
}

const signed = (amount) => (amount < 0 ? "−" : "+") + Math.abs(amount).toFixed(2);

function fact(term, value, className = "") {
  const row = document.createElement("div");
  row.append(element("dt", "", term), element("dd", className, value));
  return row;
}

function reason(name, amount, value, largest) {
  const item = document.createElement("li");
  const label = element("span", "", readable(name));
  if (value !== undefined) label.append(element("span", "value", ` · ${plain(value)}`));
  const bar = element("span", amount < 0 ? "bar down" : "bar");
  bar.style.width = `${(50 * Math.abs(amount)) / largest}%`;
  const track = element("span", "track");
  track.append(bar);
  item.append(label, element("span", "amount", inWords(amount, largest)), track);
  return item;
}

/** Sort the strongest reason first, the sum of the small ones and the calibration last. */
function byWeight([a, x], [b, y]) {
  const rest = (name) => Object.keys(NO_FEATURES).indexOf(name);
  return rest(a) - rest(b) || Math.abs(y) - Math.abs(x);
}

function showReasons({ explanations, base_value: base, scoring_attributes: features }) {
  const entries = Object.entries(explanations ?? {}).sort(byWeight);
  const largest = Math.max(...entries.map(([, amount]) => Math.abs(amount)), 1e-9);
  const items = entries.map(([name, amount]) => reason(name, amount, features?.[name], largest));
  const none = explanations ? "This scorer gives no reasons." : "Reasons are shown to callers with the token.";
  if (!items.length) items.push(element("li", "empty", none));
  slot("reasons").replaceChildren(...items);
  slot("legend").hidden = !entries.length;
  slot("fold").hidden = !entries.length;
  const sum = base == null ? [] : [["Before anything is known", base]];
  slot("log-odds").replaceChildren(...[...sum, ...entries].map(([name, amount]) => fact(readable(name), signed(amount))));
}

function showSignals(signals) {
  const { domain_userid: _, ...attributes } = signals ?? {};
  const rows = Object.entries(attributes).map(([name, value]) => {
    const row = fact(readable(name), plain(value), value === null ? "nothing" : "");
    if (Array.isArray(value)) row.lastChild.title = value.join("\n");
    return row;
  });
  slot("signals").replaceChildren(...rows);
  slot("signal-count").textContent = rows.length ? `(${rows.length})` : "";
}

/** Draw the scores. Good ones are often small, so the scale ends at the largest that is shown. */
function showChart(scores, threshold) {
  const top = Math.max(0.02, threshold ?? 0, ...scores.map(({ score }) => score));
  const x = (i) => (scores.length > 1 ? (200 * i) / (scores.length - 1) : 200);
  const y = (score) => 53 - (50 * score) / top;
  const points = scores.map(({ score }, i) => `${x(i).toFixed(1)} ${y(score).toFixed(1)}`);
  if (points.length === 1) points.unshift(`0 ${y(scores[0].score).toFixed(1)}`);
  const path = points.join("L");
  const last = points.at(-1);
  const line = threshold == null ? "" : `<line x1="0" x2="200" y1="${y(threshold)}" y2="${y(threshold)}"/>`;
  slot("spark").innerHTML =
    `${line}<path class="under" d="M0 56L${path}L200 56Z"/><path d="M${path}"/><path class="end" d="M${last}h0"/>`;
  const spoken = scores.slice(-5).map(({ score }) => percent(score));
  slot("spark").setAttribute("aria-label", `Latest scores: ${spoken.join(", ")}`);
}

function showDecision({ decision }) {
  const pill = slot("decision");
  pill.classList.toggle("act", Boolean(decision?.act));
  pill.textContent = decision ? (decision.act ? "Invite" : decision.held_out ? "Held out" : "Wait") : "";
  pill.title = decision?.threshold == null ? "" : `${decision.name} from ${percent(decision.threshold)} on`;
  if (decision?.suppressed_by) pill.title = `suppressed by ${readable(decision.suppressed_by)}`;
}

function showChange(scores) {
  const change = scores.length > 1 ? scores.at(-1).score - scores.at(-2).score : 0;
  const shown = Math.abs(change) >= 0.0005;
  slot("change").className = change < 0 ? "change down" : "change";
  slot("change").textContent = shown ? `${change < 0 ? "−" : "+"}${percent(Math.abs(change))}` : "";
}

function showScore(response) {
  const score = percent(response.score);
  panel.dataset.scored = "";
  slot("score").textContent = score;
  slot("mini").textContent = score;
  slot("model").textContent = response.model_version ?? "–";
  slot("scored").dateTime = response.scored_at ?? "";
  showDecision(response);
  showChange(memory.read());
  showChart(memory.read(), response.decision?.threshold);
  showReasons(response);
  showSignals(response.signals);
  showAge();
}

function showAge() {
  const at = memory.read().at(-1)?.at;
  if (!at) return;
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 1000));
  slot("scored").textContent = seconds < 90 ? `${seconds} s ago` : new Date(at).toLocaleTimeString();
}

function showState(state, message = "") {
  panel.dataset.state = state;
  if (slot("status").textContent !== message) slot("status").textContent = message;
}

/* ---- the prediction server ---- */

function onScore(response) {
  memory.add(response);
  showScore(response);
  const note = response.stale
    ? "Signals does not answer: scored on this visitor's last known attributes."
    : forgetful
      ? "This browser stores nothing for a page inside another site's, so each page has a new visitor. Allow its cookies."
      : response.cold_start
        ? "A new visitor: Signals has no attributes yet."
        : "";
  showState(response.stale ? "stale" : "live", note);
}

/** Show the error of an answer; the client tries again. Without an answer, or with an invalid
    token, ask the site again where predictions come from. */
function onError(error) {
  if (error.status && error.status !== 401) return showState("offline", error.message);
  window.prospect.stop();
  later(error.status ? error.message : `The prediction server does not answer. ${HOW_TO_START}`);
}

/** The server's address for this browser. One on another machine, as in Colab, cannot reach the
    server, and the site passes its requests on. */
function reachable(url) {
  const isThisMachine = ({ hostname }) => /^(.*\.)?localhost$|^127\.|^\[::1\]$/.test(hostname);
  return isThisMachine(new URL(url)) && !isThisMachine(location) ? "/scores" : url;
}

/** Fetch the client, because a script element cannot skip the warning page of ngrok's free plan. */
async function loadClient(url) {
  const answer = await fetch(`${url}/prospect.js`, { headers: { "ngrok-skip-browser-warning": "1" } });
  await import(URL.createObjectURL(await answer.blob()));
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Ask the site where predictions come from, and start; try again later if there is no server. */
async function connect() {
  try {
    const config = await (await fetch("/config.json")).json();
    const { predict_url: announced, predict_token: token, predict_key: key, problem } = config;
    if (!announced) return later(`${problem ?? "No prediction server has been started yet."} ${HOW_TO_START}`);
    const url = reachable(announced);
    await loadClient(url);
    // so that the first score counts this page, and an invitation finds a listener
    await Promise.race([Promise.all([confirmed, listening]), pause(PATIENCE)]);
    window.prospect.start({ url, token, key, every: EVERY, on: MOMENTS, tracker, onScore, onError });
    scoreNow.disabled = false;
  } catch {
    later(`The prediction server is not running. ${HOW_TO_START}`);
  }
}

async function later(message) {
  scoreNow.disabled = true;
  showState("offline", message);
  await pause(AGAIN);
  connect();
}

/* ---- the panel's own controls ---- */

function setOpen(open) {
  document.documentElement.dataset.panel = open ? "open" : "closed";
  document.getElementById("panel-toggle").setAttribute("aria-expanded", open);
}

function newVisitor() {
  tracker.clearUserData({ preserveSession: false, preserveUser: false });
  sessionStorage.clear();
  forget();
  location.assign("/");
}

function wire() {
  const isOpen = () => document.documentElement.dataset.panel === "open";
  const choose = (open) => (setOpen(open), localStorage.setItem("panel", open ? "open" : "closed"));
  document.getElementById("panel-toggle").addEventListener("click", () => choose(!isOpen()));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen()) return;
    choose(false);
    document.getElementById("panel-toggle").focus();
  });
  document.getElementById("panel-new-visitor").addEventListener("click", newVisitor);
  scoreNow.addEventListener("click", () => window.prospect.score());
  setOpen(isOpen());
  setInterval(showAge, 1000);
}

slot("visitor").textContent = tracker.getDomainUserId();
slot("app").textContent = appId;
wire();
const listening = subscribe(tracker.getDomainUserId(), session);
if (memory.latest()) showScore(memory.latest());
connect();

/* prospect.js: asks a prediction server how likely this page's visitor is to convert.

   prospect.start({
     url: "https://…",           // the prediction server
     token: "…",                 // from the tunnel's snippet; not needed on the same machine
     every: 10,                  // seconds between scores
     on: ["interval", "page_view"], // when to ask; any other entry is a DOM event, e.g. "submit"
     after: 500,                 // ms from a page view or event to the question, for it to count
     tracker: "sp",              // a tracker's namespace, or the tracker object itself
     onScore(response) {},       // each answer
     onError(error) {},          // error.status and error.message say what is wrong
   });
   prospect.score();             // ask now; a promise of the answer, or of null after an error
   prospect.stop();

   It asks nothing while the tab is hidden, and less and less often while there are errors. */
(() => {
  "use strict";
  const SLOWEST = 300; // seconds between attempts after many errors
  const TIMEOUT = 10_000; // ms
  const DEFAULTS = { token: null, every: 10, on: ["interval", "page_view"], after: 500, tracker: null };
  let options = null;
  let stopListening = new AbortController();
  let timer = 0;
  let failures = 0;
  let notBefore = 0; // ms; what Retry-After asked for
  let due = false; // a question that came up while the tab was hidden
  let asking = null;

  /* The id, from a tracker object or through the global queue of a namespace (or the first one). */
  function visitorId(tracker) {
    if (typeof tracker?.getDomainUserId === "function") return Promise.resolve(tracker.getDomainUserId());
    return new Promise((resolve, reject) => {
      if (typeof window.snowplow !== "function") return reject(new Error("no Snowplow tracker on this page"));
      window.snowplow(function () {
        const found = tracker ? this[tracker] : Object.values(this).find((t) => t?.getDomainUserId);
        if (found) resolve(found.getDomainUserId());
        else reject(new Error(`no Snowplow tracker ${tracker ?? ""} on this page`));
      });
      setTimeout(() => reject(new Error("the Snowplow tracker has not loaded")), TIMEOUT);
    });
  }

  async function problem(answer) {
    const detail = await answer.json().then((body) => body.detail, () => answer.statusText);
    const wait = Number(answer.headers.get("Retry-After")) || 0;
    return Object.assign(new Error(detail), { status: answer.status, wait });
  }

  async function ask({ url, token, tracker }) {
    const id = await visitorId(tracker);
    if (!id) throw new Error("the tracker has no visitor id (is it anonymous?)");
    const headers = { "Content-Type": "application/json", "ngrok-skip-browser-warning": "1" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const answer = await fetch(`${url.replace(/\/$/, "")}/predict`, {
      method: "POST",
      headers,
      body: JSON.stringify({ domain_userid: id }),
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (!answer.ok) throw await problem(answer);
    const response = await answer.json();
    console.log("Prediction: ", id, " - ", response.score, " - ", response);
    return response;
  }

  /* One question at a time: those who ask meanwhile share its answer. */
  function score() {
    if (!options) return Promise.reject(new Error("call prospect.start({ url: … }) first"));
    asking ??= settle(options).finally(() => (asking = null));
    return asking;
  }

  async function settle(mine) {
    let response = null;
    let error = null;
    try {
      response = await ask(mine);
    } catch (caught) {
      error = caught;
    }
    if (mine !== options) return response; // stopped, or started anew, meanwhile
    failures = error ? failures + 1 : 0;
    notBefore = Date.now() + (error?.wait ?? 0) * 1000;
    schedule();
    if (error) mine.onError?.(error);
    else mine.onScore?.(response);
    return response;
  }

  function schedule() {
    clearTimeout(timer);
    if (!options.on.includes("interval") && !failures) return;
    const every = Math.max(options.every, 0.1);
    const pause = Math.min(every * 2 ** failures, Math.max(SLOWEST, every)) * 1000;
    timer = setTimeout(tick, Math.max(pause, notBefore - Date.now()));
  }

  function tick() {
    due = document.hidden;
    if (!due) score();
  }

  /* A page view or an event: ask a moment later, when it has reached the attributes. */
  function soon() {
    if (failures) return; // the timer will come to it
    clearTimeout(timer);
    timer = setTimeout(tick, options.after);
  }

  function listen() {
    const { signal } = (stopListening = new AbortController());
    const { on } = options;
    document.addEventListener("visibilitychange", () => due && tick(), { signal });
    for (const name of on.filter((entry) => !["interval", "page_view"].includes(entry)))
      document.addEventListener(name, soon, { signal, capture: true });
    if (!on.includes("page_view")) return;
    let path = location.pathname + location.search; // pages of an application that never reloads
    const look = setInterval(() => {
      if (path === (path = location.pathname + location.search)) return;
      soon();
    }, 250);
    signal.addEventListener("abort", () => clearInterval(look));
  }

  function start(given) {
    if (!given?.url) throw new Error("prospect.start needs { url: <address of the prediction server> }");
    stop();
    options = { ...DEFAULTS, ...given };
    listen();
    if (options.on.includes("page_view")) soon();
    else if (options.on.includes("interval")) tick();
    return window.prospect;
  }

  function stop() {
    stopListening.abort();
    clearTimeout(timer);
    options = null;
    asking = null;
    failures = notBefore = 0;
    due = false;
  }

  window.prospect = { start, stop, score };
})();

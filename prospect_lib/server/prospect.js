/* prospect.js: requests from a prediction server how likely this page's visitor is to convert.

   prospect.start({
     url: "https://…",           // the prediction server
     token: "…",                 // from the tunnel's snippet; not needed on the same machine
     key: "domain_userid",       // the server's attribute key
     id() {},                    // returns the identifier, or a promise of it, or none if nobody is known
                                 // yet; needed for other keys than domain_userid, domain_sessionid, user_id
     every: 10,                  // seconds between scores
     on: ["interval", "page_view"], // when to request; any other entry is a DOM event, e.g. "submit"
     after: 500,                 // ms between an event and the request, so that the score includes it
     tracker: "sp",              // a tracker's namespace, or the tracker object itself
     onScore(response) {},       // called with each answer
     onError(error) {},          // called with each error: error.status, error.message
   });
   prospect.score();             // request now; a promise of the answer, or of null after an error
   prospect.stop();

   It requests nothing while the tab is hidden or nobody is known, and less and less often while
   there are errors. */
(() => {
  "use strict";
  const SLOWEST = 300; // seconds between attempts after many errors
  const TIMEOUT = 10_000; // ms
  const DEFAULTS = { token: null, key: "domain_userid", every: 10, on: ["interval", "page_view"], after: 500, tracker: null };
  const NIL = "00000000-0000-0000-0000-000000000000";
  const OF_TRACKER = {
    domain_userid: (tracker) => tracker.getDomainUserId(),
    domain_sessionid: (tracker) => tracker.getDomainUserInfo()[6],
    user_id: (tracker) => tracker.getUserId(),
  };
  let options = null;
  let stopListening = new AbortController();
  let timer = 0;
  let failures = 0;
  let notBefore = 0; // ms; from the header Retry-After
  let due = false; // a request was due while the tab was hidden
  let pending = null; // the promise of the request that is under way
  let told = false; // that nobody is known yet

  /* The visitor's id: from a tracker object, or from the tracker of a namespace (or the first one). */
  async function visitorId({ id, key, tracker }) {
    return id ? id() : OF_TRACKER[key](await trackerOf(tracker));
  }

  function trackerOf(tracker) {
    if (typeof tracker?.getDomainUserId === "function") return tracker;
    return new Promise((resolve, reject) => {
      if (typeof window.snowplow !== "function") return reject(new Error("no Snowplow tracker on this page"));
      window.snowplow(function () {
        const instance = tracker ? this[tracker] : Object.values(this).find((t) => t?.getDomainUserId);
        if (instance) resolve(instance);
        else reject(new Error(`no Snowplow tracker ${tracker ?? ""} on this page`));
      });
      setTimeout(() => reject(new Error("the Snowplow tracker has not loaded")), TIMEOUT);
    });
  }

  async function errorOf(answer) {
    const detail = await answer.json().then((body) => body.detail, () => answer.statusText);
    const wait = Number(answer.headers.get("Retry-After")) || 0;
    return Object.assign(new Error(detail), { status: answer.status, wait });
  }

  async function request(started) {
    const { url, token, key } = started;
    const id = await visitorId(started);
    if (id === undefined || id === null || id === "" || id === NIL) return nobody(key);
    const headers = { "Content-Type": "application/json", "ngrok-skip-browser-warning": "1" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const answer = await fetch(`${url.replace(/\/$/, "")}/predict`, {
      method: "POST",
      headers,
      body: JSON.stringify({ [key]: `${id}` }),
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (!answer.ok) throw await errorOf(answer);
    const response = await answer.json();
    console.log("Prediction: ", id, " - ", response.score, " - ", response);
    return response;
  }

  /* No visitor to score, as before the login: not an error, the next page view or interval asks again. */
  function nobody(key) {
    const why = key === "user_id" ? "nobody is signed in" : "is tracking anonymous, or consent open?";
    if (!told) console.log(`prospect.js: no ${key} yet (${why}); requests follow when there is one`);
    told = true;
    return null;
  }

  /* One request at a time: calls made meanwhile share its answer. */
  function score() {
    if (!options) return Promise.reject(new Error("call prospect.start({ url: … }) first"));
    pending ??= settle(options).finally(() => (pending = null));
    return pending;
  }

  async function settle(started) {
    let response = null;
    let error = null;
    try {
      response = await request(started);
    } catch (caught) {
      error = caught;
    }
    if (started !== options) return response; // stopped or restarted meanwhile
    failures = error ? failures + 1 : 0;
    notBefore = Date.now() + (error?.wait ?? 0) * 1000;
    schedule();
    if (error) started.onError?.(error);
    else if (response) started.onScore?.(response);
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

  /* A page view or an event: request a little later, when it has reached the attributes. */
  function soon() {
    if (failures) return; // the timer requests again
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
    let path = location.pathname + location.search; // a single-page application never reloads
    const check = setInterval(() => {
      if (path === (path = location.pathname + location.search)) return;
      soon();
    }, 250);
    signal.addEventListener("abort", () => clearInterval(check));
  }

  function start(settings) {
    if (!settings?.url) throw new Error("prospect.start needs { url: <address of the prediction server> }");
    const { key } = { ...DEFAULTS, ...settings };
    if (!settings.id && !OF_TRACKER[key])
      throw new Error(`prospect.start needs { id: () => <the visitor's ${key}> }: the tracker does not know it`);
    stop();
    options = { ...DEFAULTS, ...settings };
    listen();
    if (options.on.includes("page_view")) soon();
    else if (options.on.includes("interval")) tick();
    return window.prospect;
  }

  function stop() {
    stopListening.abort();
    clearTimeout(timer);
    options = null;
    pending = null;
    failures = notBefore = 0;
    due = told = false;
  }

  window.prospect = { start, stop, score };
})();

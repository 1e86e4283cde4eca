/* prospect.js: requests from a prediction server how likely this page's visitor is to convert.

   prospect.start({
     url: "https://…",           // the prediction server
     token: "…",                 // from its snippet; not needed on the same machine
     key: "domain_userid",       // the server's attribute key
     id() {},                    // returns the identifier, or a promise of it, or none if nobody is known
                                 // yet; needed for other keys than domain_userid, domain_sessionid, user_id
     every: 10,                  // seconds between scores
     on: ["interval", "page_view"], // when to request; any other entry is a DOM event, e.g. "submit"
     after: 500,                 // ms between an event and the request, so that the score includes it
     tracker: "sp",              // a tracker's namespace, or the tracker object; without it, the page's first
     onScore(response) {},       // called with each answer
     onError(error) {},          // called with each failed request: error.status, error.message
   });
   prospect.score();             // request now; a promise of the answer, or of null without one
   prospect.stop();

   Whatever keeps a score from coming is one line in the console, once, with its remedy. Nothing is
   requested while the tab is hidden or nobody is known, and less and less often while requests
   fail; a page view, consent and a tracker that loads later are requested for at once. */
(() => {
  "use strict";
  const SLOWEST = 300; // seconds between attempts after many errors
  const TIMEOUT = 10_000; // ms
  const LOOK = 250; // ms between looks at the page's address and its visitor
  const PATIENCE = 5_000; // ms until a line says that there is no visitor
  const NGROK = { "ngrok-skip-browser-warning": "1" }; // skips the warning page of its free plan
  const DEFAULTS = { token: null, key: "domain_userid", every: 10, on: ["interval", "page_view"], after: 500, tracker: null };
  const NIL = "00000000-0000-0000-0000-000000000000";
  const OF_TRACKER = {
    domain_userid: (tracker) => tracker.getDomainUserId(),
    domain_sessionid: (tracker) => tracker.getDomainUserInfo()[6],
    user_id: (tracker) => tracker.getUserId(),
  };
  const trackers = {}; // of this page, by namespace
  const told = new Set(); // lines in the console since start()
  let options = null;
  let started = 0; // ms
  let stopListening = new AbortController();
  let timer = 0;
  let failures = 0;
  let trouble = ""; // the line about the last failure
  let notBefore = 0; // ms; from the header Retry-After
  let due = false; // a request was due while the tab was hidden
  let again = false; // a request became due while another was under way
  let forbidden = false; // the page's Content-Security-Policy forbids to call the server
  let pending = null; // the promise of the request that is under way

  function tell(line) {
    if (!told.has(line)) console.warn(`prospect.js: ${line}`);
    told.add(line);
  }

  /* ---- the visitor ---- */

  /* The globals of Snowplow's tag. GlobalSnowplowNamespace lists those whose script has not run
     yet; the queue `q` of one whose script has run is no longer an array. */
  function snowplowGlobals() {
    const waiting = [window.GlobalSnowplowNamespace, "snowplow"].flat();
    return Object.keys(window).filter((name) => {
      const call = Object.getOwnPropertyDescriptor(window, name).value;
      if (typeof call !== "function") return false;
      return waiting.includes(name) || (typeof call.q?.push === "function" && !Array.isArray(call.q));
    });
  }

  /* The identifier in the page's tracker, and a line that says why there may be none. */
  function tracked({ key, tracker }) {
    const why = key === "user_id" ? "nobody is signed in (setUserId)" : "tracking is anonymous, or consent is open";
    const later = `no ${key} yet: ${why}. Scores begin as soon as there is one.`;
    if (tracker?.getDomainUserId) return [OF_TRACKER[key](tracker), later];
    const globals = snowplowGlobals();
    for (const name of globals)
      if (!Array.isArray(window[name].q)) window[name](function () { Object.assign(trackers, this); });
    const names = Object.keys(trackers);
    const chosen = trackers[tracker ?? names[0]];
    const known = names.map((name) => `"${name}"`).join(", ");
    if (chosen) {
      const id = OF_TRACKER[key](chosen);
      if (!tracker && names.some((name) => OF_TRACKER[key](trackers[name]) !== id))
        tell(`this page has the trackers ${known}: scores are of the first. To choose, set tracker in prospect.start().`);
      return [id, later];
    }
    if (names.length) return [null, `this page has no tracker "${tracker}", but ${known}: set tracker in prospect.start().`];
    if (!globals.length)
      return [null, "no Snowplow tracker on this page. If it is bundled with the page's code, set tracker in prospect.start() to the tracker object."];
    return [null, `the tracker of ${globals}() has not loaded: blocked by an extension or a Content-Security-Policy, or waiting for consent?`];
  }

  /* The identifier, or null with a line in the console, as before consent or a login. */
  async function visitor(settings) {
    const { id, key } = settings;
    const [value, why] = id ? [await id(), `no ${key} yet: the function id() returns none.`] : tracked(settings);
    if (isSomebody(value)) return `${value}`;
    if (id || isLate()) tell(why);
    return null;
  }

  const isSomebody = (id) => id !== undefined && id !== null && id !== "" && id !== NIL;
  const isLate = () => Date.now() - started >= PATIENCE;

  /* ---- the request ---- */

  async function request(settings) {
    const { url, token, key } = settings;
    const id = await visitor(settings);
    if (id === null) return null;
    const asking = (await permission(url)) === "prompt";
    if (asking) tell(`the browser asks whether this page may call this machine, where ${url} is: allow it.`);
    const headers = { ...NGROK, "Content-Type": "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const signal = asking ? null : AbortSignal.timeout(TIMEOUT);
    let answer, body;
    try {
      answer = await fetch(`${url}/predict`, { method: "POST", headers, signal, body: JSON.stringify({ [key]: id }) });
      body = await answer.json().catch((error) => { if (!(error instanceof SyntaxError)) throw error; });
    } catch (error) {
      throw new Error(await whyNoAnswer(url, error));
    }
    if (!answer.ok || typeof body?.score !== "number") throw refusal(url, answer, body);
    console.log("Prediction: ", id, " - ", body.score, " - ", body);
    return body;
  }

  function refusal(url, { status, headers }, body) {
    const type = headers.get("Content-Type");
    let message = `${url} answers with ${type} (status ${status}) and no score: a proxy, a tunnel or another server? ${url}/health should answer with JSON.`;
    if (/problem\+json/.test(type)) message = body.detail;
    if (/problem\+json/.test(type) && status === 401)
      message = `${url} does not accept the token of this page: copy the snippet again that the server printed when it started.`;
    return Object.assign(new Error(message), { status, wait: Number(headers.get("Retry-After")) || 0 });
  }

  /* A browser hides from a page why a request failed. Look for the reason that has a remedy. */
  async function whyNoAnswer(url, { name }) {
    if (name === "TimeoutError") return `${url} has not answered within ${TIMEOUT / 1000} seconds.`;
    if (location.protocol === "https:" && /^http:/.test(url) && !isThisMachine(new URL(url)))
      return `a page on https may not call ${url}: give the server an address with https.`;
    const get = (mode) => fetch(`${url}/prospect.js`, { mode, cache: "no-store", headers: mode === "cors" ? NGROK : {} }).catch(() => null);
    const client = await get("cors");
    const anything = client ?? (await get("no-cors"));
    await new Promise((resolve) => setTimeout(resolve, 100)); // until the policy's event
    if (forbidden) return `this page's Content-Security-Policy forbids calls to ${url}: add it to connect-src.`;
    if (/javascript/.test(client?.headers.get("Content-Type")))
      return `${url} answers, but not to pages of ${location.origin}: start it with --origin ${location.origin}`;
    if (anything) return `something other than the server answers at ${url}: a proxy or a tunnel? ${url}/health should answer with JSON.`;
    const state = await permission(url);
    if (state === "denied" && !isSecureContext) return `pages on http may not call this machine, where ${url} is: use the page's https address.`;
    if (state === "denied" || state === "prompt")
      return `the browser does not let this page call this machine, where ${url} is: allow it in the settings left of the address, and reload.`;
    return `${url} cannot be reached: does it run? If ${url}/health answers in a tab, an extension, such as an ad blocker, blocks it here.`;
  }

  const isThisMachine = ({ hostname }) => /^(.*\.)?localhost$|^127\.|^\[::1\]$/.test(hostname);

  /* Chrome's permission for pages of the internet to call this machine: granted, prompt, denied. */
  async function permission(url) {
    if (!isThisMachine(new URL(url)) || isThisMachine(location)) return null;
    const state = async (name) => (await navigator.permissions.query({ name })).state;
    return state("loopback-network").catch(() => state("local-network-access")).catch(() => null);
  }

  /* One request at a time: calls made meanwhile share its answer. */
  function score() {
    if (!options) return Promise.reject(new Error("call prospect.start({ url: … }) first"));
    return (pending ??= settle(options));
  }

  async function settle(settings) {
    let response = null;
    let error = null;
    try {
      response = await request(settings);
    } catch (caught) {
      error = caught;
    }
    if (settings !== options) return response; // stopped or restarted meanwhile
    pending = null;
    failures = error ? failures + 1 : 0;
    notBefore = Date.now() + (error?.wait ?? 0) * 1000;
    if (again) soon();
    else schedule();
    if (response) told.delete(trouble);
    if (response) settings.onScore?.(response);
    if (error) tell((trouble = error.message));
    if (error) settings.onError?.(error);
    return response;
  }

  /* ---- when to request ---- */

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

  /* Request a little later, when the event has reached the attributes. While requests fail, only
     page views and new visitors are requested for before the pause is over. */
  function soon(event) {
    if (event && failures) return;
    again = pending !== null;
    if (again) return;
    clearTimeout(timer);
    timer = setTimeout(tick, Math.max(options.after, notBefore - Date.now()));
  }

  /* A single-page application never reloads; a tracker, consent and a login may come later. */
  function watch() {
    const look = () => (options.id ? [] : tracked(options));
    let address = location.href;
    let [known] = look();
    return () => {
      const [id, why] = look();
      const views = options.on.includes("page_view") && address !== location.href;
      if (views || (id !== known && isSomebody(id))) soon();
      else if (!options.id && !isSomebody(id) && isLate()) tell(why);
      address = location.href;
      known = id;
    };
  }

  function listen() {
    const { signal } = (stopListening = new AbortController());
    const moments = options.on.filter((entry) => !["interval", "page_view"].includes(entry));
    document.addEventListener("visibilitychange", () => due && tick(), { signal });
    for (const name of moments) document.addEventListener(name, soon, { signal, capture: true });
    const { origin } = new URL(options.url);
    const forbid = ({ effectiveDirective, disposition, blockedURI }) =>
      (forbidden ||= effectiveDirective === "connect-src" && disposition === "enforce" && blockedURI.startsWith(origin));
    document.addEventListener("securitypolicyviolation", forbid, { signal });
    if (options.on.length === moments.length) return;
    const check = setInterval(watch(), LOOK);
    signal.addEventListener("abort", () => clearInterval(check));
  }

  function start(settings) {
    const { key, url } = { ...DEFAULTS, ...settings };
    if (!/^(https?:\/)?\//.test(url)) throw new Error(`prospect.start needs { url: <address of the prediction server, such as "https://…"> }, not ${url}`);
    if (!settings.id && !OF_TRACKER[key])
      throw new Error(`prospect.start needs { id: () => <the visitor's ${key}> }: the tracker does not know it`);
    stop();
    options = { ...DEFAULTS, ...settings, url: new URL(url, location.href).href.replace(/\/+$/, "") };
    started = Date.now();
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
    due = again = forbidden = false;
    told.clear();
  }

  window.prospect?.stop?.(); // of a client that was loaded before
  window.prospect = { start, stop, score };
})();

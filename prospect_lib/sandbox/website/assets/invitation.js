/* The personal invitation. It arrives through Signals, as an intervention for this visitor, and
   is shown once per session in a corner of the page. */

const AGAIN = 5; // seconds until a refused stream is opened again
const SEEN = "invited"; // key of the session that has seen it
const WAITING = "invitation"; // key of one that arrived on a page that does not show it
const FORMS = ["/demo", "/landing"];
const DONE = "/thank-you"; // after the form no invitation is shown
const TEXTS = {
  title: "Shall we run tomorrow's order for you?",
  body: "You have seen how it works. In half an hour a planner shows you the same with the numbers of one of your shops.",
  cta: "Pick a time",
};

/**
 * Listen for this visitor's interventions while the tab is visible: each stream occupies one of
 * the few connections that a browser opens to a site. `session` returns the id of the visit.
 * The promise settles when the stream is open, or cannot be opened now.
 */
export function subscribe(visitor, session) {
  const keys = new URLSearchParams({ domain_userid: visitor, domain_sessionid: session() });
  const address = `/api/v1/interventions?${keys}`;
  if (location.pathname === DONE) localStorage.setItem(SEEN, session());
  show(session());
  let stream = null;
  return new Promise((settled) => {
    function follow() {
      if (document.hidden) {
        stream?.close();
        stream = null;
      } else if (!stream || stream.readyState === EventSource.CLOSED) {
        stream = new EventSource(address);
        stream.onopen = settled;
        stream.onmessage = ({ data }) => receive(JSON.parse(data), session());
        stream.onerror = ({ target }) => {
          settled();
          if (target.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN * 1000);
        };
      }
    }
    document.addEventListener("visibilitychange", follow);
    follow();
  });
}

/** Remove what this browser has stored, for a new visitor. */
export function forget() {
  [SEEN, WAITING].forEach((key) => localStorage.removeItem(key));
}

/** An intervention may have its own texts; defaults fill in the missing ones. */
function receive({ attributes }, session) {
  const { title, body, cta } = { ...TEXTS, ...attributes };
  localStorage.setItem(WAITING, JSON.stringify({ session, title, body, cta }));
  show(session);
}

function show(session) {
  const waiting = JSON.parse(localStorage.getItem(WAITING) ?? "null");
  if (waiting?.session !== session || localStorage.getItem(SEEN) === session) return;
  if ([...FORMS, DONE].includes(location.pathname)) return;
  localStorage.setItem(SEEN, session);
  localStorage.removeItem(WAITING);
  document.body.append(card(waiting));
}

function card({ title, body, cta }) {
  const section = document.createElement("section");
  section.className = "invitation";
  section.setAttribute("role", "status"); // screen readers announce it, and the focus stays
  section.innerHTML = `
    <h2></h2><p></p>
    <p class="actions"><a class="button" href="/demo"></a><button type="button" class="button quiet">Not now</button></p>
    <button type="button" class="close" aria-label="Close the invitation">×</button>`;
  section.querySelector("h2").textContent = title;
  section.querySelector("p").textContent = body;
  section.querySelector("a").textContent = cta;
  section.querySelectorAll("button").forEach((b) => b.addEventListener("click", () => section.remove()));
  section.addEventListener("keydown", (event) => event.key === "Escape" && section.remove());
  return section;
}

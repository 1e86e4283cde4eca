/* The personal invitation. It comes through Signals, as an intervention for this visitor alone,
   and shows in the corner of the page: never over what one reads, and once in a session. */

const AGAIN = 5; // seconds before a stream that was refused is opened again
const SEEN = "invited"; // the session that has seen it
const WAITING = "invitation"; // one that came where it cannot be shown
const FORMS = ["/demo", "/landing"];
const DONE = "/thank-you"; // who has asked for a demo needs no invitation to
const TEXTS = {
  title: "Shall we run tomorrow's order for you?",
  body: "You have seen how it works. In half an hour a planner shows you the same with the numbers of one of your shops.",
  cta: "Pick a time",
};

/**
 * Listen for this visitor's interventions while the tab is visible: each stream holds one of the
 * few connections that a browser keeps to a site. `session` gives the id of the visit.
 * The promise settles when the stream is open, or cannot be opened now.
 */
export function subscribe(visitor, session) {
  const address = `/api/v1/interventions?domain_userid=${encodeURIComponent(visitor)}`;
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

/** Forget what this browser has seen: the next visitor is another one. */
export function forget() {
  [SEEN, WAITING].forEach((key) => localStorage.removeItem(key));
}

/** An intervention may bring its own words; others stand in where it has none. */
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
  section.setAttribute("role", "status"); // announced, and focus stays where it is
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

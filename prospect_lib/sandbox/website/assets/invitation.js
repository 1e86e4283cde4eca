/* A personal invitation in the corner of the page: never over what one reads, never twice. */

const SEEN = "invited";

/**
 * Show the card. `title`, `body` and `cta` (the label of its link to the demo form) are text.
 * Once per `session`, in all tabs; not where the form is, nor after it. True if shown.
 */
export function showInvitation({ title, body, cta }, session = "") {
  const late = ["/demo", "/thank-you", "/landing"].includes(location.pathname);
  if (late || localStorage.getItem(SEEN) === session) return false;
  localStorage.setItem(SEEN, session);
  document.body.append(card(title, body, cta));
  return true;
}

function card(title, body, cta) {
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

// Comfort only: everything is there without it. A button to copy, and lists that follow as one types.
"use strict";

document.documentElement.classList.add("live");

for (const place of document.querySelectorAll(".copy")) {
  const code = place.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + code.textContent.slice(0, 80));
  button.addEventListener("click", async () => {
    let copied = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      copied = true;
    } catch {
      // Without TLS there is no clipboard; selecting still works.
      getSelection().selectAllChildren(code);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    button.classList.toggle("done", copied);
    setTimeout(() => {
      button.textContent = "Copy";
      button.classList.remove("done");
    }, 2000);
  });
  place.append(button);
}

// The client that was chosen last is chosen on the next page, too.
const clients = document.querySelectorAll('.pull input[name="client"]');
for (const client of clients) {
  try {
    if (localStorage.getItem("client") === client.id) client.checked = true;
  } catch {
    // Where nothing may be kept, nothing is.
  }
  client.addEventListener("change", () => {
    try {
      localStorage.setItem("client", client.id);
    } catch {
      // As above.
    }
  });
}

const form = document.querySelector("form.search");
const field = form?.querySelector("input[type=search]");
if (field) {
  let waiting = 0;
  let latest = 0;
  const follow = async () => {
    const mine = ++latest;
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value) url.searchParams.set(name, value);
    const answer = await fetch(url);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.getElementById("found");
    // An older answer that comes late is of no use any more.
    if (mine !== latest || !answer.ok || !found) return;
    document.getElementById("found").replaceWith(found);
    const [count, counted] = [document, page].map((where) => where.querySelector(".title p"));
    if (count && counted) count.textContent = counted.textContent;
    history.replaceState(null, "", url);
  };
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => follow().catch(() => {}), 150);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
}

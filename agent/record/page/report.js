(() => {
  "use strict";
  const tools = document.querySelector("[data-tools]");
  if (!tools) return;
  const AT_ONCE = 10;
  const search = tools.querySelector("input");
  const buttons = [...tools.querySelectorAll("button")];
  const told = tools.querySelector("output");
  const more = document.querySelector("[data-more]");
  const asked = [...document.querySelectorAll(".asked")].map((card) => ({
    card, kind: card.dataset.kind, text: card.textContent.toLowerCase(),
  }));
  let kinds = "", limit = AT_ONCE;

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { card, kind, text } of asked) {
      const fits = (!kinds || kinds.split("|").includes(kind)) && words.every((word) => text.includes(word));
      if (fits) found += 1;
      card.hidden = !fits || found > limit;
    }
    told.textContent = found === 0 ? "no question fits" : `${Math.min(found, limit)} of ${found} shown`;
    more.hidden = found <= limit;
  }

  function choose(button) {
    kinds = button.dataset.kinds;
    for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
    limit = AT_ONCE;
    show();
  }

  for (const button of buttons) button.addEventListener("click", () => choose(button));
  search.addEventListener("input", () => { limit = AT_ONCE; show(); });
  more.addEventListener("click", () => { limit += AT_ONCE; show(); });
  tools.hidden = false;
  choose(buttons[0]);
})();

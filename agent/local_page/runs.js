(() => {
  "use strict";
  const table = document.querySelector(".runs");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const tools = document.querySelector("[data-tools]");
  const search = tools.querySelector("input");
  const told = document.querySelector("output");

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { row, text } of rows) row.hidden = !words.every((word) => text.includes(word));
    const left = rows.filter(({ row }) => !row.hidden).length;
    told.textContent = left === rows.length ? "" : `${left} of ${rows.length} shown`;
  }

  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  }

  function sort(head) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = rows.map(({ row }) => row).sort((a, b) => {
      const [x, y] = [key(a, head.cellIndex), key(b, head.cellIndex)];
      const apart = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
      return up ? apart : -apart;
    });
    body.append(...order);
  }

  for (const head of table.querySelectorAll("th[data-sort]")) {
    head.tabIndex = 0;
    head.setAttribute("role", "button");
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); } });
  }
  document.querySelector("form").addEventListener("submit", (event) => {
    const ticked = rows.filter(({ row }) => row.querySelector("input").checked).length;
    if (ticked === 2) return;
    event.preventDefault();
    told.textContent = `tick two runs; ${ticked} ${ticked === 1 ? "is" : "are"} ticked`;
  });
  search.addEventListener("input", filter);
  tools.hidden = false;
})();

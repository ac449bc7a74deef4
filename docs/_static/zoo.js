// What Sphinx leaves out for readers who listen or have no mouse.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
  for (const wide of document.querySelectorAll(".highlight pre, .table-wrapper")) {
    wide.tabIndex = 0;
  }
});

// Filters and sorts the tables of the zoo; without JavaScript they are all there.
document.addEventListener("DOMContentLoaded", () => {
  const tables = [...document.querySelectorAll("table.zoo")];
  if (!tables.length) return;
  const all = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const input = document.querySelector(".zoo-filter");
  const count = document.querySelector(".zoo-count");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of all) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    for (const fold of document.querySelectorAll("details:has(table.zoo)")) {
      fold.open = words.length > 0 && fold.querySelector("tbody tr:not([hidden])") !== null;
    }
    count.textContent = `${shown} of ${all.length}`;
  };
  input.addEventListener("input", filter);
  filter();
  for (const table of tables) sortable(table);
});

function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    head.tabIndex = 0;
    const sort = () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[i].textContent;
      const number = (row) => parseFloat(text(row).replace(/,/g, ""));
      rows.sort((a, b) => {
        if (i < 1) return up ? text(a).localeCompare(text(b)) : text(b).localeCompare(text(a));
        const [x, y] = [number(a), number(b)];
        // What has no number ("-", "same") stays below what has one, both ways.
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return up ? x - y : y - x;
      });
      body.append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}

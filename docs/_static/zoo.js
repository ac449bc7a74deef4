// Filters and sorts the table of the zoo; without JavaScript the whole table is there.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.zoo");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const input = document.querySelector(".zoo-filter");
  const count = document.querySelector(".zoo-count");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  input.addEventListener("input", filter);
  filter();
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
});

"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [key(row.cells[place]), row]);
      keyed.sort(([a], [b]) => compare(a, b, up));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

function key(cell) {
  return "order" in cell.dataset ? Number(cell.dataset.order) : cell.textContent;
}

function compare(a, b, up) {
  if (a === "" || b === "") return (a === "") - (b === ""); // empty cells stay last
  if (typeof a !== typeof b) return (typeof a === "string") - (typeof b === "string"); // words after numbers
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return up ? order : -order;
}

const tip = document.getElementById("tip");
const most = 12; // values of a row that are shown beside a point
const reach = 20; // pixels between the pointer and a point that it means
let lit = []; // the point that is shown, and its row

function lines(mark) {
  const told = mark.dataset.told.split("\n");
  const row = document.getElementById(mark.dataset.row);
  if (!row) return told;
  const heads = row.closest("table").tHead.rows[0].cells;
  const cells = [...row.cells].map((cell, place) => [heads[place].textContent, cell.textContent]);
  const shown = cells.filter(([, text]) => text).map((pair) => pair.join(": ")).filter((line) => !told.includes(line));
  const more = shown.length - most;
  return [...told, "", ...shown.slice(0, most), ...(more > 0 ? [`and ${more} more in the table`] : [])];
}

function show(mark) {
  hide();
  tip.replaceChildren(...lines(mark).map((line) => {
    const part = document.createElement("p");
    part.textContent = line || "\u00a0";
    return part;
  }));
  tip.hidden = false;
  const at = mark.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(4, at.right + 6), innerWidth - size.width - 4);
  const below = at.bottom + 6 + size.height < innerHeight;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, below ? at.bottom + 6 : at.top - 6 - size.height)}px`;
  lit = [mark, document.getElementById(mark.dataset.row)].filter(Boolean);
  for (const element of lit) element.classList.add("lit");
}

function hide() {
  tip.hidden = true;
  for (const element of lit) element.classList.remove("lit");
  lit = [];
}

function nearest(marks, event) {
  let best = null, least = reach;
  for (const mark of marks) {
    const box = mark.getBoundingClientRect();
    const gap = Math.hypot(box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY);
    if (gap < least) [best, least] = [mark, gap];
  }
  return best;
}

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll(".mark")];
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.told = title.textContent;
    title.remove(); // ours replaces the browser's
  }
  const look = (event) => {
    const mark = nearest(marks, event);
    if (!mark) hide();
    else if (mark !== lit[0]) show(mark);
  };
  svg.addEventListener("pointermove", look);
  svg.addEventListener("click", look);
  svg.addEventListener("pointerleave", hide);
}
addEventListener("scroll", hide, { passive: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

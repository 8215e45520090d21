"use strict";
/* Tables sort by a click on a head, pictures open in full size. The page says the same without this. */
(function () {
  function keyOf(row, column) {
    var cell = row.cells[column];
    var value = cell.getAttribute("data-v");
    return value === null ? cell.textContent.trim().toLowerCase() : Number(value);
  }
  function compare(a, b, way) {
    var aNone = typeof a === "number" && isNaN(a), bNone = typeof b === "number" && isNaN(b);
    if (aNone || bNone) { return aNone - bNone; } /* what has no value stays below */
    if (typeof a === "number" && typeof b === "number") { return way * (a - b); }
    return way * String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function sort(table, head, column) {
    var down = head.getAttribute("aria-sort") === "ascending";
    var body = table.tBodies[0];
    var rows = Array.prototype.map.call(body.rows, function (row) { return [keyOf(row, column), row]; });
    rows.sort(function (a, b) { return compare(a[0], b[0], down ? -1 : 1); });
    rows.forEach(function (pair) { body.appendChild(pair[1]); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    if (table.tBodies[0].rows.length < 2) { return; }
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var button = document.createElement("span"); /* a button proper is not painted in heads that repeat in print */
      button.setAttribute("role", "button");
      button.tabIndex = 0;
      button.append.apply(button, Array.from(head.childNodes));
      head.appendChild(button);
      button.addEventListener("click", function () { sort(table, head, column); });
      button.addEventListener("keydown", function (event) {
        if (event.key !== "Enter" && event.key !== " ") { return; }
        event.preventDefault();
        sort(table, head, column);
      });
    });
  });
  function enlarge(image) {
    var dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "picture in full size");
    dialog.appendChild(image.cloneNode());
    dialog.addEventListener("click", function () { dialog.close(); });
    dialog.addEventListener("close", function () { dialog.remove(); });
    document.body.appendChild(dialog);
    dialog.showModal();
  }
  if (window.HTMLDialogElement) {
    document.querySelectorAll(".pictures img").forEach(function (image) {
      image.classList.add("zoomable");
      image.addEventListener("click", function () { enlarge(image); });
    });
  }
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (it) { it.open = true; });
  });
})();

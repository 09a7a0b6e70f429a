"use strict";
(async () => {
  const figures = JSON.parse(document.getElementById("data").textContent);
  const choice = document.getElementById("choice"), look = document.getElementById("controls");
  const views = new Map();
  document.documentElement.classList.add("js");

  // Data come by column, and a map's are shared by all its specifications.
  const rows = figures.map(({ data }) => {
    const names = Object.keys(data);
    return names.length ? data[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, data[name][i]]))) : [];
  });
  const chosen = (name) => choice?.elements[name]?.value ?? "";
  const show = (view) => view.signal("chosenSpeaker", chosen("speaker")).signal("chosenClass", chosen("class")).runAsync();
  const choose = (name, value) => {
    const known = choice?.elements[name];
    if (known && value !== undefined) known.value = known.value === value ? "" : value;
    choice?.dispatchEvent(new Event("change"));
  };

  const draw = async (box) => {
    const number = Number(box.dataset.figure), { specs } = figures[number];
    const by = look?.elements.by.value, key = `${look?.elements.method.value}, ${by}`;
    const spec = specs[key] ?? Object.values(specs)[0];
    const { view } = await vegaEmbed(box, { ...spec, datasets: { ...spec.datasets, rows: rows[number] } }, {
      mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "custom" },
    });
    views.get(box)?.finalize();
    views.set(box, view);
    view.addEventListener("click", (event, item) => {
      const datum = item?.datum;
      if (!datum) return;
      const told = box.parentNode.querySelector("output");
      if (told) told.textContent = tell(datum).join("\n");
      const own = told ? (by === "speaker" ? "speaker" : "label") : ("speaker" in datum ? "speaker" : "label");
      choose(own === "label" ? "class" : own, datum[own]);
    });
    await show(view);
  };

  const titles = { id: "utterance", label: "true label", predicted: "predicted by most seeds", right: "recognised", speaker: "speaker", session: "session" };
  const known = (row) => Object.keys(titles).filter((name) => name in row);
  const tell = (row) => known(row).map((name) => `${titles[name]}: ${row[name]}`);
  const list = (details) => {
    const number = Number(details.parentNode.querySelector(".picture").dataset.figure);
    const own = rows[number].filter((row) => (!chosen("speaker") || row.speaker === chosen("speaker")) && (!chosen("class") || row.label === chosen("class")));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of known(rows[number][0])) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = "label";
      cell.textContent = titles[name];
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of own) {
      const line = body.insertRow();
      for (const name of known(row)) Object.assign(line.insertCell(), { className: "label", textContent: row[name] });
    }
    details.querySelector("div").replaceChildren(table);
  };
  const lists = [...document.querySelectorAll("details.scripted")];
  for (const details of lists) details.addEventListener("toggle", () => details.open && list(details));

  choice?.addEventListener("change", () => {
    for (const view of views.values()) show(view);
    for (const details of lists) if (details.open) list(details);
  });
  look?.addEventListener("change", async () => { for (const box of document.querySelectorAll(".maps .picture")) await draw(box); });
  for (const form of [choice, look]) form?.addEventListener("submit", (event) => event.preventDefault());
  for (const box of document.querySelectorAll(".picture")) {
    await draw(box);
    await new Promise((done) => setTimeout(done));
  }
  document.documentElement.classList.add("drawn");
})();

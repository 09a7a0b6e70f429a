"use strict";
(async () => {
  const read = (name) => JSON.parse(document.getElementById(name)?.textContent ?? "[]");
  const figures = read("data"), clips = read("clips");
  const choice = document.getElementById("choice"), look = document.getElementById("controls");
  const player = document.getElementById("player");
  const views = new Map(), parts = [...document.querySelectorAll("details.part")];
  const all = (where, what) => [...where.querySelectorAll(what)];
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  document.documentElement.classList.add("js");

  // Data come by column, and a map's are shared by all its specifications.
  const rows = figures.map(({ data }) => {
    const names = Object.keys(data);
    return names.length ? data[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, data[name][i]]))) : [];
  });
  const chosen = (name) => choice?.elements[name]?.value ?? "";
  const isChosen = (speaker, label) => (!chosen("speaker") || speaker === chosen("speaker")) && (!chosen("class") || label === chosen("class"));
  const show = (view) => view.signal("chosenSpeaker", chosen("speaker")).signal("chosenClass", chosen("class"))
    .signal("showsCounts", choice?.elements.counts?.checked ?? false).runAsync();
  const choose = (name, value) => {
    const known = choice?.elements[name];
    if (known && value !== undefined) known.value = known.value === value ? "" : value;
    choice?.dispatchEvent(new Event("change"));
  };

  const play = (name, clip) => {
    player.hidden = false;
    player.querySelector("span").textContent = name;
    const audio = player.querySelector("audio");
    audio.src = `data:audio/mpeg;base64,${clips[clip]}`;
    // A browser may refuse to play what was not asked for by a click; the controls are there.
    audio.play().catch(() => {});
  };
  const canPlay = (clip) => clip !== null && clip !== undefined && clips[clip] !== undefined;
  const offer = (cell, name, clip) => {
    const button = make("button", { type: "button", className: "play", textContent: "Play" });
    button.append(make("span", { className: "hidden", textContent: ` ${name}` }));
    button.addEventListener("click", () => play(name, clip));
    cell.append(button);
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
    box.classList.add("drawn");
    box.parentNode.querySelector(".undrawn")?.remove();
    view.addEventListener("click", (event, item) => {
      const datum = item?.datum;
      if (!datum) return;
      const told = box.parentNode.querySelector("output");
      if (told) told.textContent = tell(datum).join("\n");
      if (canPlay(datum.clip)) play(datum.id, datum.clip);
      const own = told ? (look.elements.by.value === "speaker" ? "speaker" : "label") : ("speaker" in datum ? "speaker" : "label");
      choose(own === "label" ? "class" : own, datum[own]);
    });
    await show(view);
  };
  // Only what can be seen is drawn; of the rest its first state stands there until its part is opened.
  const drawIn = async (where) => {
    for (const box of all(where, ".picture")) {
      if (views.has(box) || box.closest("details.part:not([open])")) continue;
      views.set(box, undefined);
      await draw(box);
      await new Promise((done) => setTimeout(done));
    }
  };

  const titles = { id: "utterance", label: "true label", predicted: "predicted by most seeds", right: "recognised", speaker: "speaker", session: "session", corpus: "corpus" };
  const known = (row) => Object.keys(titles).filter((name) => name in row);
  const tell = (row) => known(row).map((name) => `${titles[name]}: ${row[name]}`);
  const list = (details) => {
    const number = Number(details.parentNode.querySelector(".picture").dataset.figure);
    const table = make("table");
    const head = table.createTHead().insertRow();
    for (const name of known(rows[number][0])) head.append(make("th", { scope: "col", className: "label", textContent: titles[name] }));
    const body = table.createTBody();
    for (const row of rows[number].filter((row) => isChosen(row.speaker, row.label))) {
      const line = body.insertRow();
      for (const name of known(row)) Object.assign(line.insertCell(), { className: "label", textContent: row[name] });
      if (canPlay(row.clip)) offer(line.cells[0], row.id, row.clip);
    }
    details.querySelector("div").replaceChildren(table);
    sortable(table);
  };

  const value = (row, place) => row.cells[place].firstChild?.textContent ?? "";
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    for (const [place, head] of heads.entries()) {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const isNumber = !head.classList.contains("label");
        // Numbers stand with the highest first.
        const descending = (head.ariaSort ?? (isNumber ? "ascending" : "descending")) === "ascending";
        const isGap = (row) => isNumber && isNaN(parseFloat(value(row, place)));
        const compare = isNumber
          ? (one, other) => parseFloat(one) - parseFloat(other)
          : (one, other) => one.localeCompare(other, undefined, { numeric: true });
        // What has no number stands last, whichever way.
        const sorted = [...body.rows].sort((one, other) => isGap(one) || isGap(other)
          ? isGap(one) - isGap(other)
          : (descending ? -1 : 1) * compare(value(one, place), value(other, place)));
        for (const other of heads) other.ariaSort = null;
        head.ariaSort = descending ? "descending" : "ascending";
        body.append(...sorted);
      });
    }
    if (body.rows.length < 5) return;
    const words = table.caption?.textContent ?? table.parentNode.getAttribute("aria-label");
    const search = make("input", { type: "search", className: "search", placeholder: "filter rows", ariaLabel: `Filter rows: ${words}` });
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    const place = table.parentNode;
    if (place.previousElementSibling?.className === "search") place.previousElementSibling.remove();
    place.before(search);
  };
  for (const table of all(document, "main table")) sortable(table);
  const marked = all(document, "tr[data-class]");
  for (const row of marked) if (canPlay(row.dataset.clip)) offer(row.cells[0], value(row, 0), row.dataset.clip);

  const lists = all(document, "details.scripted");
  for (const details of lists) details.addEventListener("toggle", () => details.open && list(details));
  for (const part of parts) part.addEventListener("toggle", () => part.open && drawIn(part));
  choice?.addEventListener("change", () => {
    for (const view of views.values()) if (view) show(view);
    for (const details of lists) if (details.open) list(details);
    for (const row of marked) row.classList.toggle("other", !isChosen(row.dataset.speaker, row.dataset.class));
  });
  look?.addEventListener("change", async () => { for (const box of all(document, ".maps .picture")) await draw(box); });
  for (const form of [choice, look]) form?.addEventListener("submit", (event) => event.preventDefault());
  await drawIn(document);
  document.documentElement.classList.add("drawn");
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const svgName = "http://www.w3.org/2000/svg";
  document.documentElement.classList.add("js");

  const show = (words, x, y) => {
    tip.textContent = words;
    tip.hidden = false;
    const left = Math.min(x + 12, innerWidth - tip.offsetWidth - 8);
    const below = y + 16 + tip.offsetHeight < innerHeight;
    tip.style.transform = `translate(${Math.max(left, 4)}px,${below ? y + 16 : y - tip.offsetHeight - 8}px)`;
  };
  let again = null;
  const hide = () => { tip.hidden = true; again = null; };

  // Titles inside charts become tips that a finger reaches as well.
  for (const title of document.querySelectorAll("svg[role=img] title")) {
    const shape = title.parentNode;
    shape.dataset.tip = title.textContent;
    title.remove();
  }
  const tell = (event) => {
    const shape = event.target.closest?.("[data-tip]");
    if (shape) { again = null; show(shape.dataset.tip, event.clientX, event.clientY); }
    else if (!event.target.closest?.(".map")) hide();
  };
  document.addEventListener("pointerover", tell);
  document.addEventListener("pointerdown", tell);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  // A point that was reached by keyboard may still be scrolling into view.
  document.addEventListener("scroll", () => (again ? again() : hide()), { passive: true });

  const pathOf = (points, members, kind) => members.map((i) => {
    const x = points[2 * i] / 10, y = points[2 * i + 1] / 10;
    return `M${x} ${y}${kind.startsWith("crosses") ? "m-2-2l4 4m0-4l-4 4" : "h.01"}`;
  }).join("");

  const maps = [...document.querySelectorAll(".map")].map((box) => {
    const own = data.maps[Number(box.dataset.map)];
    const svg = box.querySelector("svg");
    const legend = box.parentNode.querySelector(".legend");
    const here = document.createElementNS(svgName, "circle");
    here.setAttribute("class", "here");
    here.setAttribute("r", "6");
    let points = [], current = -1, chosen = null;

    const fade = () => {
      for (const path of svg.querySelectorAll("path")) path.classList.toggle("faded", chosen !== null && path.dataset.place !== chosen);
      for (const button of legend.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.place === chosen));
    };
    const draw = (method, wanted) => {
      const by = own.groups[wanted] ? wanted : Object.keys(own.groups)[0];
      const { names, of } = own.groups[by];
      points = own.points[method];
      current = -1;
      chosen = null;
      here.remove();
      for (const path of svg.querySelectorAll("path")) path.remove();
      legend.textContent = "";
      names.forEach((name, place) => {
        const kind = own.kinds[Math.floor(place / data.colours) % own.kinds.length];
        const colour = `s${place % data.colours}`;
        const path = document.createElementNS(svgName, "path");
        path.setAttribute("class", `${colour} ${kind}`);
        path.setAttribute("d", pathOf(points, [...of.keys()].filter((i) => of[i] === place), kind));
        path.dataset.place = place;
        svg.append(path);
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.place = place;
        button.setAttribute("aria-pressed", "false");
        const key = document.createElementNS(svgName, "svg");
        for (const [attribute, value] of [["viewBox", "0 0 12 12"], ["width", 12], ["height", 12], ["aria-hidden", true]]) key.setAttribute(attribute, value);
        const mark = document.createElementNS(svgName, "path");
        mark.setAttribute("class", `${colour} ${kind}`);
        mark.setAttribute("d", pathOf([60, 60], [0], kind));
        key.append(mark);
        button.append(key, ` ${name || "unknown"}`);
        button.addEventListener("click", () => { chosen = chosen === String(place) ? null : String(place); fade(); });
        const item = document.createElement("li");
        item.append(button);
        legend.append(item);
      });
      svg.setAttribute("aria-label", `${own.title}, ${method}, by ${by}`);
    };
    const point = (i) => {
      current = i;
      if (i < 0) { here.remove(); hide(); return; }
      const x = points[2 * i] / 10, y = points[2 * i + 1] / 10;
      here.setAttribute("cx", x);
      here.setAttribute("cy", y);
      svg.append(here);
      const words = [own.ids[i], ...Object.entries(own.groups).map(([by, { names, of }]) => `${by}: ${names[of[i]] || "unknown"}`)];
      if (own.right[i]) words.push(`recognised ${own.right[i]} times`);
      const frame = svg.getBoundingClientRect(), scale = frame.width / data.side;
      show(words.join("\n"), frame.left + x * scale, frame.top + y * scale);
      again = () => point(i);
    };
    const nearest = (x, y, allowed) => {
      let best = -1, least = Infinity;
      for (let i = 0; i < points.length / 2; i++) {
        const dx = points[2 * i] / 10 - x, dy = points[2 * i + 1] / 10 - y, far = dx * dx + dy * dy;
        if (far < least && allowed(dx, dy, far, i)) { best = i; least = far; }
      }
      return best;
    };
    const follow = (event) => {
      const frame = svg.getBoundingClientRect(), scale = data.side / frame.width;
      point(nearest((event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale, (dx, dy, far) => far < 200));
    };
    const ways = {
      ArrowLeft: (dx, dy) => -dx >= Math.abs(dy), ArrowRight: (dx, dy) => dx >= Math.abs(dy),
      ArrowUp: (dx, dy) => -dy >= Math.abs(dx), ArrowDown: (dx, dy) => dy >= Math.abs(dx),
    };
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-label", `Map of ${own.title}: arrow keys go from utterance to utterance`);
    box.addEventListener("pointermove", follow);
    box.addEventListener("pointerdown", follow);
    box.addEventListener("pointerleave", () => point(-1));
    box.addEventListener("blur", () => point(-1));
    box.addEventListener("keydown", (event) => {
      const way = ways[event.key];
      if (!way) return;
      event.preventDefault();
      const x = current < 0 ? data.side / 2 : points[2 * current] / 10, y = current < 0 ? data.side / 2 : points[2 * current + 1] / 10;
      const next = nearest(x, y, (dx, dy, far, i) => i !== current && far > 0 && (current < 0 || way(dx, dy)));
      if (next >= 0) point(next);
    });
    return { draw };
  });

  const controls = document.getElementById("controls");
  if (controls) {
    const redraw = () => { for (const map of maps) map.draw(controls.elements.method.value, controls.elements.by.value); };
    controls.addEventListener("change", redraw);
    controls.addEventListener("submit", (event) => event.preventDefault());
    redraw();
  }
})();

"use strict";
(() => {
  const root = document.documentElement;
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [];

  // ---- light and dark ----------------------------------------------------------------------------------------------

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wantsDark.matches);

  function template() {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
      tickcolor: colour("--line"), automargin: true, title: { standoff: 10 },
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), size: 13, family: getComputedStyle(document.body).fontFamily },
        hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
        legend: { bgcolor: "rgba(0,0,0,0)", tracegroupgap: 0 },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--link") },
        updatemenudefaults: { bgcolor: colour("--back"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
        annotationdefaults: { font: { color: colour("--ink") } },
        xaxis: axis, yaxis: axis,
      },
    };
  }

  function applyTheme() {
    document.getElementById("theme").textContent = isDark() ? "Light" : "Dark";
    const now = template();
    for (const chart of charts) Plotly.relayout(chart.place, { template: now });
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    applyTheme();
  });
  wantsDark.addEventListener("change", applyTheme);

  // ---- charts ------------------------------------------------------------------------------------------------------

  // The legend right of a wide chart, below a narrow one, which then grows by as many lines as the legend has; rows of
  // buttons side by side, and above each other where there is no room for that.
  function fitted(layout, entries, width) {
    const given = layout.legend || {};
    const narrow = width < 560;
    const menus = layout.updatemenus || [];
    const extra = narrow ? 36 * Math.max(0, menus.length - 1) : 0;
    const height = (layout.height || 420) + extra;
    const margin = { t: 28, r: 16, b: 52, l: 60, ...layout.margin };
    margin.t += extra;
    const updatemenus = !narrow ? menus : menus.map((menu, at) => (
      { ...menu, x: 0, xanchor: "left", pad: { ...menu.pad, b: (menu.pad?.b ?? 0) + 36 * at } }
    ));
    const plain = { ...layout, height, margin, updatemenus, autosize: true };
    if (!entries.length) return plain;
    const lines = entries.map((name) => name.split("<br>"));
    const longest = Math.min(60, Math.max(...lines.flat().map((line) => line.length)));
    if (width >= 700 && given.orientation !== "h" && longest < 40) return { ...plain, legend: { ...given } };
    const columns = Math.max(1, Math.floor((width - 20) / (longest * 7.2 + 45)));
    const room = Math.ceil(lines.flat().length / columns) * 20 + 14;
    // At the very bottom: what stands in the upper half of a chart, plotly takes for a legend above it.
    const place = { x: 0, xref: "container", xanchor: "left", y: 0, yref: "container", yanchor: "bottom" };
    const legend = { ...given, orientation: "h", maxheight: 1, ...place };
    return { ...plain, legend, height: height + room, margin: { ...margin, b: margin.b + room }, meta: { room } };
  }

  // A name that is wider than the chart goes on in a second line, with characters such as &lt; kept whole.
  function wrapNames(data, width) {
    const most = Math.max(16, Math.floor((width - 64) / 8.5));
    for (const trace of data) {
      if (typeof trace.name !== "string") continue;
      const lines = [[]];
      for (const word of trace.name.split(" ")) {
        const letters = word.match(/&[a-z#0-9]+;|[^]/giu) || [];
        if (lines.at(-1).length && lines.at(-1).length + 1 + letters.length > most) lines.push([]);
        else if (lines.at(-1).length) lines.at(-1).push(" ");
        for (const letter of letters) {
          if (lines.at(-1).length >= most) lines.push([]);
          lines.at(-1).push(letter);
        }
      }
      trace.name = lines.map((line) => line.join("")).join("<br>");
    }
  }

  function shownInLegend(data, layout) {
    if (layout.showlegend === false) return [];
    const named = data.filter((trace) => trace.showlegend !== false && trace.name && trace.visible !== false);
    return named.map((trace) => trace.name.replace(/&[a-z#0-9]+;/g, "x"));
  }

  function draw(place) {
    const figure = JSON.parse(document.getElementById("chart-" + place.dataset.chart).textContent);
    wrapNames(figure.data, place.clientWidth);
    const entries = shownInLegend(figure.data, figure.layout);
    const own = structuredClone(figure.layout); // plotly writes into what it is given
    const layout = fitted({ ...figure.layout, template: template() }, entries, place.clientWidth);
    // By name: plotly's own choice has a button that sends the chart to a server.
    const buttons = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
    const options = { responsive: true, displaylogo: false, modeBarButtons: buttons };
    const chart = { place, layout: own, entries, width: place.clientWidth };
    charts.push(chart);
    Plotly.newPlot(place, figure.data, layout, options).then(() => settle(chart));
  }

  // How high a legend below the chart has become is known only when it is there.
  function settle({ place }) {
    const { legend, height, margin, meta } = place.layout;
    const drawn = place.querySelector("g.legend .bg");
    if (!legend || legend.yref !== "container" || !drawn) return;
    const room = Math.ceil(drawn.getBoundingClientRect().height) + 10;
    const more = room - meta.room;
    if (Math.abs(more) < 3) return;
    Plotly.relayout(place, { height: height + more, "margin.b": margin.b + more, meta: { room } });
  }

  // A phone that is turned, a window that is made narrow: the legend changes its side.
  addEventListener("resize", () => {
    for (const chart of charts) {
      const width = chart.place.clientWidth;
      if (width === chart.width) continue;
      const wider = width > chart.width;
      chart.width = width;
      const { legend, height, margin, updatemenus, meta } = fitted(chart.layout, chart.entries, width);
      const side = legend || {};
      const places = {};
      updatemenus.forEach((menu, at) => {
        for (const name of ["x", "xanchor", "pad"]) places[`updatemenus[${at}].${name}`] = menu[name];
      });
      const now = {
        ...places, height, margin, meta: meta ?? null, "legend.orientation": side.orientation || "v",
        "legend.x": side.x ?? null, "legend.xref": side.xref || "paper", "legend.xanchor": side.xanchor || "left",
        "legend.y": side.y ?? null, "legend.yref": side.yref || "paper", "legend.yanchor": side.yanchor || "auto",
        "legend.maxheight": side.maxheight ?? null,
      };
      // The larger side first: in between, a legend of many lines must not leave the chart without any height.
      const steps = [() => Plotly.Plots.resize(chart.place), () => Plotly.relayout(chart.place, now)];
      const [one, other] = wider ? steps : steps.reverse();
      one().then(other).then(() => settle(chart));
    }
  });

  // ---- tables ------------------------------------------------------------------------------------------------------

  // A number where the cell is one ("1.5x", "93 %" and "1,200" are), null where it is empty, else its text.
  function value(cell) {
    if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    const text = cell.textContent.trim();
    if (text === "" || text === "-") return null;
    const number = /^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)\s*(?:x|%)?$/i.exec(text);
    return number ? Number(number[1].replaceAll(",", "")) : text;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  const next = { none: "ascending", ascending: "descending", descending: "none" };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("th")?.querySelector("button");
      if (!button) return;
      const header = button.parentElement;
      const order = next[header.getAttribute("aria-sort")];
      for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", order);
      const rows = original.map((row) => ({ row, key: value(row.cells[header.cellIndex]) }));
      const sign = order === "descending" ? -1 : 1;
      if (order !== "none") {
        rows.sort((a, b) => {
          if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // what is missing comes last
          return sign * compare(a.key, b.key);
        });
      }
      body.append(...rows.map(({ row }) => row));
    });
  }

  document.getElementById("theme").textContent = isDark() ? "Light" : "Dark";
  for (const place of document.querySelectorAll(".chart")) {
    try {
      draw(place);
    } catch (error) {
      console.error(error); // the other charts are worth having
    }
  }
})();

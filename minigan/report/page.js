"use strict";
// The slider of the samples, and the cursors of the curves. Without it the last step is shown.
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent).charts;
  const LEFT = 50, RIGHT = 412, TOP = 12, BOTTOM = 194, WIDTH = 420; // as in curves.py
  const count = (step) => step.toLocaleString("en-US");

  // Return the index of the last of ascending numbers that is at most `x`, or 0.
  function indexAt(numbers, x) {
    let low = 0, high = numbers.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (numbers[middle] <= x) low = middle; else high = middle - 1;
    }
    return low;
  }

  function nearest(numbers, x) {
    const i = indexAt(numbers, x);
    return i + 1 < numbers.length && numbers[i + 1] - x < x - numbers[i] ? i + 1 : i;
  }

  function format(value) {
    if (value === null) return "-";
    if (Number.isInteger(value)) return count(value);
    const size = Math.abs(value);
    if (size < 1e-3 || size >= 1e7) return value.toExponential(3);
    return value.toLocaleString("en-US", {
      minimumSignificantDigits: 4, maximumSignificantDigits: 4,
    });
  }

  // ---------------------------------------------------------------------------------- the curves
  function makeChart(plot) {
    const { steps, values } = charts[plot.id];
    const figure = plot.closest("figure");
    const cursor = plot.querySelector(".cursor");
    const dots = [...plot.querySelectorAll(".dot")];
    const readings = [...figure.querySelectorAll(".legend .value")];
    const names = [...figure.querySelectorAll(".legend .name")].map((x) => x.textContent);
    const at = figure.querySelector(".at");
    const low = Number(plot.dataset.low), high = Number(plot.dataset.high);
    const isLog = plot.dataset.log === "1";
    const first = Number(plot.dataset.first), span = Number(plot.dataset.last) - first;
    let index = steps.length - 1;

    function show(i) {
      index = Math.min(Math.max(i, 0), steps.length - 1);
      const x = LEFT + (steps[index] - first) / span * (RIGHT - LEFT);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
      values.forEach((column, k) => {
        const value = column[index];
        readings[k].textContent = format(value);
        const height = isLog && value !== null ? Math.log10(Math.max(value, 1e-300)) : value;
        const y = BOTTOM - (height - low) / (high - low) * (BOTTOM - TOP);
        const isInside = value !== null && y >= TOP - 4 && y <= BOTTOM + 4;
        dots[k].setAttribute("cx", x);
        dots[k].setAttribute("cy", isInside ? y : 0);
        dots[k].setAttribute("visibility", isInside ? "visible" : "hidden");
      });
      at.textContent = count(steps[index]);
      plot.setAttribute("aria-valuenow", steps[index]);
      const words = values.map((column, k) => `${names[k]} ${format(column[index])}`);
      plot.setAttribute("aria-valuetext", `step ${count(steps[index])}: ${words.join(", ")}`);
    }

    function follow(event) {
      const box = plot.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * WIDTH;
      show(nearest(steps, first + (x - LEFT) / (RIGHT - LEFT) * span));
    }

    const page = Math.max(1, Math.round(steps.length / 10));
    const moves = {
      ArrowLeft: () => index - 1, ArrowDown: () => index - 1,
      ArrowRight: () => index + 1, ArrowUp: () => index + 1,
      PageDown: () => index - page, PageUp: () => index + page,
      Home: () => 0, End: () => steps.length - 1,
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) show(index); });
    plot.addEventListener("keydown", (event) => {
      if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      show(moves[event.key]());
    });
    return { showStep: (step) => show(nearest(steps, step)) };
  }

  const made = [...document.querySelectorAll(".plot")].map(makeChart);

  // ---------------------------------------------------------------------------------- the slider
  const slider = document.getElementById("step");
  if (slider) {
    const steps = slider.dataset.steps.split(" ").map(Number);
    const now = document.getElementById("step-now");
    const films = [...document.querySelectorAll(".film")].map((figure) => {
      const images = [...figure.querySelectorAll("img")];
      const own = images.map((image) => Number(image.dataset.step));
      return { images, own, caption: figure.querySelector(".at") };
    });

    function show() {
      const step = steps[Number(slider.value)];
      now.textContent = count(step);
      slider.setAttribute("aria-valuetext", `step ${count(step)}`);
      for (const { images, own, caption } of films) {
        const i = indexAt(own, step);
        images.forEach((image, k) => { image.hidden = k !== i; });
        caption.textContent = `step ${count(own[i])}`;
      }
    }

    slider.addEventListener("input", () => {
      stop();
      show();
      for (const chart of made) chart.showStep(steps[Number(slider.value)]);
    });

    const play = document.getElementById("play");
    const isStill = window.matchMedia("(prefers-reduced-motion: reduce)");
    let timer = null;

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    }

    function advance() {
      const last = Number(slider.max);
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= last) stop();
    }

    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (slider.value === slider.max) slider.value = 0;
      show();
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(advance, isStill.matches ? 1500 : 350);
    });
    show(); // a browser may restore the slider's place
  }

  // What is folded is printed too.
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();

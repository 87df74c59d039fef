"use strict";
(() => {
  const slider = document.getElementById("time");
  if (!slider) return;
  document.documentElement.classList.add("live");
  const grids = document.querySelector(".grids"), figures = [...grids.children];
  const said = document.querySelector(".slider output"), play = document.getElementById("play");
  grids.classList.add("one");
  let timer = null;
  const show = () => {
    figures.forEach((each, place) => each.classList.toggle("now", place === Number(slider.value)));
    said.textContent = figures[slider.value].querySelector("figcaption").textContent;
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "Pause";
    show();
    timer = setInterval(() => {
      if (slider.value === slider.max) return stop();
      slider.value = Number(slider.value) + 1;
      show();
    }, 350);
  });
  show();
})();

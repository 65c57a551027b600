// Entry point of the page of training runs: a picture per curve, all runs in it.
import { drawCurves } from "./curves.js";
import { curves } from "./data.js";
import { makeTheme } from "./theme.js";

function drawTraining() {
  for (const { name, label, percent } of curves) {
    const titles = { x: "step", y: label, percent, linear: true, least: 1 };
    drawCurves(name, (run) => run[name], titles);
  }
}

makeTheme();
drawTraining();
addEventListener("resize", drawTraining);

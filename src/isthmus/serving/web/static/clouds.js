// Point clouds that turn under the pointer, a finger, and the arrow keys. They turn by themselves until touched, unless
// the reader wants less motion.
(() => {
  "use strict";
  const clouds = new Map();
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // Six bytes a point: x, y, z in [-1, 1] as 0..255, then red, green, blue.
  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const points = [];
    for (let at = 0; at + 5 < bytes.length; at += 6) {
      const [x, y, z] = [0, 1, 2].map((axis) => bytes[at + axis] / 127.5 - 1);
      points.push({ x, y, z, colour: `rgb(${bytes[at + 3]} ${bytes[at + 4]} ${bytes[at + 5]})` });
    }
    return points;
  }

  function draw(canvas, { points, across, up }) {
    const pen = canvas.getContext("2d");
    const half = canvas.width / 2;
    const [sa, ca, su, cu] = [Math.sin(across), Math.cos(across), Math.sin(up), Math.cos(up)];
    const turned = points.map((point) => {
      const [x, deep] = [point.x * ca + point.z * sa, point.z * ca - point.x * sa];
      return { x, y: point.y * cu - deep * su, z: point.y * su + deep * cu, colour: point.colour };
    });
    turned.sort((one, other) => one.z - other.z); // the nearest is drawn last
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const size = Math.max(1, Math.min(5, 120 / Math.sqrt(points.length)));
    for (const { x, y, z, colour } of turned) {
      const near = 3 / (3.2 - z);
      pen.globalAlpha = 0.55 + (0.45 * (z + 1)) / 2;
      pen.fillStyle = colour;
      pen.beginPath();
      pen.arc(half + x * near * half * 0.85, half - y * near * half * 0.85, size * near, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  function adopt(canvas) {
    const cloud = { points: decode(canvas.dataset.points), across: 0, up: 0, held: false };
    clouds.set(canvas, cloud);
    canvas.addEventListener("pointerdown", (event) => {
      cloud.held = true;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      cloud.across += event.movementX / 80;
      cloud.up += event.movementY / 80;
      draw(canvas, cloud);
    });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };
      const turn = turns[event.key];
      if (!turn) return;
      event.preventDefault();
      cloud.held = true;
      cloud.across += turn[0];
      cloud.up += turn[1];
      draw(canvas, cloud);
    });
    draw(canvas, cloud);
  }

  function look() {
    for (const canvas of document.querySelectorAll("canvas[data-points]")) if (!clouds.has(canvas)) adopt(canvas);
    for (const canvas of clouds.keys()) if (!canvas.isConnected) clouds.delete(canvas);
  }

  function turn() {
    for (const [canvas, cloud] of clouds) {
      if (cloud.held || still.matches || !canvas.checkVisibility()) continue;
      cloud.across += 0.008;
      draw(canvas, cloud);
    }
    requestAnimationFrame(turn);
  }

  new MutationObserver(look).observe(document, { childList: true, subtree: true });
  requestAnimationFrame(turn);
})();

// Point clouds that turn under the pointer, a finger, and the arrow keys. Those in sight turn by themselves until touched,
// unless the reader wants less motion. A page may have this script more than once, as a notebook with several replies.
(() => {
  "use strict";
  if (window.isthmusClouds) {
    window.isthmusClouds();
    return;
  }
  const clouds = new WeakMap();
  const visible = new Set();
  let turning = false;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) visible.add(target);
      else visible.delete(target); // also when it leaves the page
    }
    if (!turning) rotate();
  });

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
    const size = (half / 256) * Math.max(1, Math.min(5, 120 / Math.sqrt(points.length)));
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
    canvas.dataset.drawn = "";
    clouds.set(canvas, cloud);
    const turn = (across, up) => {
      cloud.held = true;
      cloud.across += across;
      cloud.up += up;
      draw(canvas, cloud);
    };
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) turn(event.movementX / 80, event.movementY / 80);
    });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };
      if (!turns[event.key]) return;
      event.preventDefault();
      turn(...turns[event.key]);
    });
    draw(canvas, cloud);
    watcher.observe(canvas);
  }

  function look() {
    document.querySelectorAll("canvas[data-points]:not([data-drawn])").forEach(adopt);
  }

  function rotate() {
    const free = still.matches ? [] : [...visible].filter((canvas) => !clouds.get(canvas).held);
    for (const canvas of free) {
      clouds.get(canvas).across += 0.01;
      draw(canvas, clouds.get(canvas));
    }
    turning = free.length > 0; // a page on which nothing turns rests
    if (turning) requestAnimationFrame(rotate);
  }

  window.isthmusClouds = look;
  look();
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
})();

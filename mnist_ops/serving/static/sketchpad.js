// The sketchpad: strokes by pointer events; each pause sends the drawing as a PNG to /predict.
"use strict";

(() => {
  const pad = document.getElementById("sketchpad");
  if (!pad) {
    return; // there is no champion
  }
  const canvas = document.getElementById("sketch");
  const pen = canvas.getContext("2d");
  const element = (name) => document.getElementById(`sketch-${name}`);
  const PAUSE = 120; // milliseconds after the last movement
  const WIDTH = 0.07; // of a stroke, as a share of the canvas
  let strokes = []; // each a list of [x, y], as shares of the canvas
  let timer = 0;
  let newest = 0; // answers to older drawings are dropped

  function paint() {
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#000000";
    pen.lineWidth = WIDTH * canvas.width;
    pen.lineCap = pen.lineJoin = "round";
    for (const [first, ...others] of strokes) {
      pen.beginPath();
      pen.moveTo(first[0] * canvas.width, first[1] * canvas.height);
      for (const [x, y] of others.length ? others : [first]) {
        pen.lineTo(x * canvas.width, y * canvas.height);
      }
      pen.stroke();
    }
    element("undo").disabled = element("clear").disabled = strokes.length === 0;
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function say(text) {
    element("message").textContent = text;
    element("message").hidden = text === "";
    element("message").className = "alert bad";
  }

  function percent(share) {
    return `${(100 * share).toFixed(1)} %`;
  }

  function showNothing() {
    newest += 1;
    say("");
    element("label").textContent = "–";
    element("confidence").textContent = "draw something";
    element("review").hidden = element("seen").hidden = true;
    showBars({}, "");
  }

  function showBars(probabilities, label) {
    for (const row of pad.querySelectorAll("tr[data-label]")) {
      const share = probabilities[row.dataset.label];
      row.querySelector("meter").value = share ?? 0;
      row.lastElementChild.textContent = share === undefined ? "–" : percent(share);
      row.classList.toggle("chosen", row.dataset.label === label);
    }
  }

  const WHY = {
    low_confidence: "The network is not sure: in a record this prediction would be marked for review.",
    not_a_digit: "This does not look like a digit, so the label may mean nothing.",
  };

  function show(answer) {
    say("");
    element("label").textContent = answer.label;
    element("confidence").textContent = `with ${percent(answer.confidence)}`;
    element("review").textContent = WHY[answer.review_reason] ?? "";
    element("review").hidden = !answer.needs_review;
    element("seen").src = `data:image/png;base64,${answer.picture}`;
    element("seen").hidden = false;
    element("model").textContent = `${answer.model.name}, version ${answer.model.version}`;
    showBars(answer.probabilities, answer.label);
  }

  async function predict(image) {
    newest += 1;
    const mine = newest;
    try {
      const response = await fetch(pad.dataset.predict, {
        method: "POST",
        body: image,
        headers: { Accept: "application/json", "Content-Type": image.type || "application/octet-stream" },
      });
      const answer = await response.json();
      if (mine !== newest) {
        return;
      }
      if (response.ok) {
        show(answer);
      } else {
        showNothing();
        say(`${answer.title}. ${answer.detail ?? ""}`);
      }
    } catch {
      if (mine === newest) {
        showNothing();
        say("The server did not answer. Draw on, or try again in a moment.");
      }
    }
  }

  function predictSoon() {
    window.clearTimeout(timer);
    if (strokes.length === 0) {
      showNothing();
      return;
    }
    timer = window.setTimeout(() => canvas.toBlob(predict, "image/png"), PAUSE);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) {
      return;
    }
    element("file").value = "";
    canvas.setPointerCapture(event.pointerId);
    strokes.push([point(event)]);
    paint();
    predictSoon();
    event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) {
      return;
    }
    const coalesced = event.getCoalescedEvents?.() ?? [];
    strokes[strokes.length - 1].push(...(coalesced.length ? coalesced : [event]).map(point));
    paint();
    predictSoon();
  });

  element("undo").addEventListener("click", () => {
    strokes.pop();
    paint();
    predictSoon();
  });

  element("clear").addEventListener("click", () => {
    strokes = [];
    paint();
    predictSoon();
  });

  element("file").addEventListener("change", () => {
    const [file] = element("file").files;
    if (file) {
      strokes = [];
      paint();
      predict(file);
    }
  });

  paint();
})();

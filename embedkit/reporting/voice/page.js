"use strict";
const find = id => document.getElementById(id);
const drawing = "http://www.w3.org/2000/svg";
let about, recording, heard;

function say(text, failed = false) {
  find("status").textContent = text;
  find("status").className = failed ? "failed" : "";
}

function make(parent, tag, text, kind) {
  const made = parent.appendChild(document.createElement(tag));
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// 16 bits a sample, one channel.
function writeWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, number) => view.setUint8(place + number, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, place) => view.setInt16(44 + 2 * place, Math.round(32767 * Math.max(-1, Math.min(1, value))), true));
  return new Blob([view.buffer], {type: "audio/wav"});
}

async function start() {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1},
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("recorder.js");
  const node = new AudioWorkletNode(context, "recorder", {numberOfOutputs: 0});
  recording = {stream, context, chunks: [], samples: 0};
  node.port.onmessage = ({data}) => {
    if (!recording) return;
    recording.chunks.push(data);
    recording.samples += data.length;
    find("level").value = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    say(`Recording: ${(recording.samples / context.sampleRate).toFixed(1)} s`);
    if (recording.samples >= (about.seconds - 0.5) * context.sampleRate) stop();
  };
  context.createMediaStreamSource(stream).connect(node);
  find("record").setAttribute("aria-pressed", "true");
  find("record").textContent = "Stop";
}

async function stop() {
  const {stream, context, chunks, samples} = recording;
  recording = undefined;
  stream.getTracks().forEach(track => track.stop());
  const joined = new Float32Array(samples);
  let place = 0;
  for (const chunk of chunks) {
    joined.set(chunk, place);
    place += chunk.length;
  }
  find("record").setAttribute("aria-pressed", "false");
  find("record").textContent = "Record";
  find("level").value = 0;
  await context.close();
  if (!joined.some(value => Math.abs(value) > 1e-3)) {
    return say("Only silence was recorded; turn the microphone on or up, or choose another one in the browser.", true);
  }
  await hear(writeWav(joined, context.sampleRate));
}

async function hear(sound) {
  if (sound.size > about.bytes) return say(`The file has more than ${Math.floor(about.bytes / 1e6)} MB; choose a shorter one.`, true);
  find("record").disabled = find("file").disabled = true;
  say("Listening ...");
  try {
    const answer = await fetch("hear", {method: "POST", body: sound});
    const told = await answer.json();
    if (!answer.ok) return say(told.error, true);
    show(told, sound);
    say(`Heard ${told.seconds.toFixed(1)} s.`);
  } catch {
    say("embedkit does not answer any more; start it again.", true);
  } finally {
    find("record").disabled = find("file").disabled = false;
  }
}

function write(value) {
  return about.rates ? value.toFixed(2) : `${(100 * value).toFixed(0)} %`;
}

function draw(parent, told, place) {
  const values = told.windows.map(one => one.values[place]);
  const all = told.windows.flatMap(one => one.values).concat(told.whole);
  const [low, high] = about.rates ? [Math.min(...all), Math.max(...all)] : [0, 1];
  const x = one => 100 * (one.start + one.end) / 2 / told.seconds, y = value => 29 - 28 * (value - low) / (high - low || 1);
  // Each value stands in the middle of its window; the first and the last one reach to the ends.
  const line = told.windows.map((one, number) => `${x(one)} ${y(values[number])}`);
  line.unshift(`0 ${y(values[0])}`);
  line.push(`100 ${y(values[values.length - 1])}`);
  const picture = parent.appendChild(document.createElementNS(drawing, "svg"));
  const parts = {...(about.rates ? {} : {area: `M0 30 L${line.join(" L")} L100 30Z`}), line: `M${line.join(" L")}`};
  picture.setAttribute("viewBox", "0 0 100 30");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `${about.names[place]}: ${values.map(write).join(", ")}`);
  for (const [kind, shape] of Object.entries(parts)) {
    const path = picture.appendChild(document.createElementNS(drawing, "path"));
    path.setAttribute("class", kind);
    path.setAttribute("d", shape);
  }
}

function show(told, sound) {
  if (heard) URL.revokeObjectURL(heard);
  find("sound").src = heard = URL.createObjectURL(sound);
  const best = told.whole.indexOf(Math.max(...told.whole));
  find("verdict").textContent = about.rates ? "Ratings" : `${about.names[best]}, ${write(told.whole[best])}`;
  const range = told.windows.flatMap(one => one.values);
  find("caption").textContent = `Windows of ${about.window} s, every ${about.hop} s` + (about.rates
    ? `; ${write(Math.min(...range))} to ${write(Math.max(...range))}, in the unit of the corpus.` : "; 0 to 100 %.");
  find("name").textContent = about.rates ? "Attribute" : "Class";
  find("over").textContent = `0 to ${told.seconds.toFixed(1)} s`;
  for (const id of ["rows", "columns", "windows"]) find(id).replaceChildren();
  about.names.forEach((name, place) => {
    const row = make(find("rows"), "tr", undefined, !about.rates && place === best ? "best" : "");
    make(row, "th", name, "label").scope = "row";
    make(row, "td", write(told.whole[place]));
    draw(make(row, "td", undefined, "strip"), told, place);
  });
  make(find("columns"), "th", "Seconds", "label").scope = "col";
  for (const name of about.names) make(find("columns"), "th", name).scope = "col";
  for (const one of told.windows) {
    const row = make(find("windows"), "tr");
    make(row, "th", `${one.start.toFixed(1)} to ${one.end.toFixed(1)}`, "label").scope = "row";
    for (const value of one.values) make(row, "td", write(value));
  }
  find("answer").hidden = false;
}

find("record").addEventListener("click", async () => {
  try {
    await (recording ? stop() : start());
  } catch (error) {
    say(`The microphone cannot be used (${error.message}); choose a file.`, true);
  }
});
find("file").addEventListener("change", event => {
  const [file] = event.target.files;
  if (file) hear(file);
  event.target.value = "";
});

fetch("about").then(answer => answer.json()).then(told => {
  about = told;
  document.title = `${told.title}: embedkit try`;
  find("title").textContent = told.title;
  find("about").textContent = `${told.rates ? "Rates" : "Tells apart"} ${told.names.join(", ")}. Speak for up to ${told.seconds} s, or choose a file.`;
  find("record").disabled = find("file").disabled = false;
});
